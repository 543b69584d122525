"""Whole runs that are killed, and two at once in one checkout: a plain ``snakemake`` ends with the same bytes."""

import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from checkout import Checkout, copy_checkout
from disturbed_runs import content, kill_each, moments, two_at_once

pytestmark = pytest.mark.slow


ONE_ROW = """\
title: "Tiny: one way to tune"
columns: [MME, Flickr30k]
llms: [vicuna-7b]
rows:
  - {title: LayerNorm-Conv. 20K, method: layernorm, data: Conv.20K}
"""


def with_one_row(checkout: Checkout) -> Checkout:
    (checkout.root / "workflow/report_items/tiny.yaml").write_text(ONE_ROW, encoding="utf-8")
    return checkout


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    return with_one_row(copy_checkout(tmp_path / "fresh"))


@pytest.fixture(scope="module")
def undisturbed(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of a run that nothing disturbed, and some more."""
    root = tmp_path_factory.mktemp("undisturbed") / "checkout"
    shutil.copytree(made.root, root)
    checkout = with_one_row(Checkout(root))
    checkout.snakemake("-c2")
    return content(checkout)


def check(fresh: Checkout, undisturbed: dict[str, str]) -> None:
    found = content(fresh)
    assert {"tables/tiny.csv", "tables/tiny.tex"} <= found.keys()
    assert found == {name: undisturbed[name] for name in found}


@pytest.mark.parametrize("alone", [False, True], ids=["with its jobs", "alone"])
def test_after_snakemake_was_killed_the_next_one_goes_on(
    undisturbed: dict[str, str], fresh: Checkout, alone: bool
) -> None:
    (moment,) = moments(seed=int(alone), number=1, longest=30)
    kill_each(fresh, [(moment, alone)])
    check(fresh, undisturbed)


def test_a_result_that_was_finished_as_snakemake_was_killed_stops_nothing(copy: Checkout) -> None:
    """Snakemake takes it for incomplete; made again, it would hide that what needs it is missing."""
    (selected,) = copy.root.glob("results/select/*-finetune-*")
    shutil.rmtree(selected)
    missing = f"results/select/{selected.name}/manifest.json"
    assert copy.pending(missing) == {"select": 1}
    for stage in ("connector", "finetune"):
        for result in copy.results(stage):
            path = f"results/{stage}/{result.name}/manifest.json"
            marker = copy.root / ".snakemake" / "incomplete" / urlsafe_b64encode(path.encode()).decode()
            marker.write_text('{"external_jobid": null}')
    assert copy.pending(missing) == {"select": 1}


def test_two_runs_at_once_make_each_result_once(made: Checkout, tmp_path: Path) -> None:
    """Of the whole study, in another folder: a fresh store holds the same bytes."""
    fresh, wanted = copy_checkout(tmp_path / "fresh"), content(made)
    (offset,) = moments(seed=2, number=1, longest=10)
    two_at_once(fresh, offset)
    check(fresh, wanted)
    assert [len(fresh.results(stage)) for stage in ("finetune", "predict", "score-captions")] == [3, 13, 7]
