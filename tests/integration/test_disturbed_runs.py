"""Whole runs that are killed, and two at once in one checkout: a plain ``snakemake`` ends with the same bytes."""

import shutil
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from checkout import Checkout, copy_checkout
from disturbed_runs import content, kill_each, moments, two_at_once

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    return copy_checkout(tmp_path / "fresh")


@pytest.mark.parametrize("alone", [False, True], ids=["with its jobs", "alone"])
def test_after_snakemake_was_killed_the_next_one_goes_on(made: Checkout, fresh: Checkout, alone: bool) -> None:
    (moment,) = moments(seed=int(alone), number=1, longest=40)
    kill_each(fresh, [(moment, alone)])
    assert content(fresh) == content(made)


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


def test_two_runs_at_once_make_each_result_once(made: Checkout, fresh: Checkout) -> None:
    (offset,) = moments(seed=2, number=1, longest=10)
    two_at_once(fresh, offset)
    assert content(fresh) == content(made)
