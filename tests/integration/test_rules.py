"""The rules state what each stage is made from, and the plan agrees; the linter finds nothing but what is argued."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from checkout import ROOT, Checkout, copy_checkout

pytestmark = pytest.mark.slow

EXPLAINED = {
    "Specify a conda environment or container for each rule.": "one environment, pinned in envs/requirements.lock",
    "No log directive defined": "publish and page copy a file beside Snakemake; an error of theirs is to be seen",
}
"""Findings of ``snakemake --lint`` that stay, and why. It ends with 1 where it finds anything, so its text counts."""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout without results."""
    return copy_checkout(tmp_path / "checkout")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('connector="connector",\n            images', "images", "states no connector, which "),
        ('images="fetch draw",', 'images="fetch draw",\n            adapter="finetune",', "states adapter, but "),
        ('tuned="finetune select"', 'tuned="connector select"', "states connector or select as tuned, but "),
    ],
    ids=["too many in the plan", "missing in the plan", "another stage behind it"],
)
def test_a_rule_that_states_other_inputs_than_the_plan(checkout: Checkout, old: str, new: str, found: str) -> None:
    checkout.edit("workflow/rules/evaluation.smk", old, new)
    last = checkout.snakemake("-n", code=1).strip().splitlines()[-1]
    assert last.startswith("error: rule of predict (workflow/rules): ") and found in last
    assert "vicuna-7b" in last  # the result that has them


def test_a_rule_that_names_no_stage(checkout: Checkout) -> None:
    checkout.edit("workflow/rules/data.smk", 'raw="fetch draw"', 'raw="fetch drawn"')
    last = checkout.snakemake("-n", code=1).strip().splitlines()[-1]
    assert last == "error: rule of prepare: raw: there is no stage 'drawn'; see lntune.plan.stages"


def test_a_result_under_another_stages_name(checkout: Checkout) -> None:
    listed = re.search(r"results/finetune/(\S+)/manifest.json", checkout.snakemake("-n"))
    assert listed
    last = checkout.snakemake("-n", f"results/fetch/{listed[1]}/manifest.json", code=1).strip().splitlines()[-1]
    assert last.startswith(f"error: fetch/{listed[1]}: is no result of this config; did you mean finetune/")


def test_the_graph_of_rules_is_the_study(checkout: Checkout) -> None:
    graph = checkout.snakemake("--rulegraph")
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    edges = {(names[one], names[other]) for one, other in re.findall(r"(\d+) -> (\d+)", graph)}
    chain = (
        "draw",
        "prepare",
        "encode",
        "connector",
        "finetune",
        "predict",
        "score_captions",
        "select",
        "table",
        "publish",
    )
    assert set(pairwise(chain)) <= edges
    assert "stage" not in names.values()


def test_the_linter_finds_nothing_else(checkout: Checkout) -> None:
    found = set(re.findall(r"^    \* (.*?):$", checkout.snakemake("--lint", code=1), re.MULTILINE))
    assert found == EXPLAINED.keys()


def test_every_rule_of_a_stage_is_short() -> None:
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^(?=use rule)", file.read_text(), flags=re.MULTILINE)[1:]:
            assert rule.split("\n\n")[0].count("\n") <= 14, rule
