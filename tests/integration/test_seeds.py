"""Several seeds: each trains every model once, the first draws what they share, and one more costs only itself."""

import csv
import json

import pytest

from checkout import ROOT, Checkout
from lntune.plan.node import Node
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.plan.study import Study

SHARED = {
    "draw", "fetch", "convert", "prepare", "questions-mme", "questions-vqav2", "questions-captions", "questions-pope",
    "tokenize-references", "encode", "measure",
}  # fmt: skip


def planned(*seeds: int) -> tuple[Plan, dict[str, set[str]]]:
    """The plan of the demo's tables under these seeds, and stage to the names of its results but tables."""
    plan = Plan(Study.read(ROOT, {"seeds": list(seeds)}))
    for name in ("table1", "table2", "tableA1"):
        plan.report_item(name)
    found: dict[str, set[str]] = {}
    for node in plan.nodes():
        if node.stage not in STAGES_OF_REPORT_ITEMS:
            found.setdefault(node.stage, set()).add(node.name)
    return plan, found


def test_one_more_seed_costs_only_its_own_models() -> None:
    _, alone = planned(0)
    _, both = planned(0, 1)
    assert set(alone) == set(both) > SHARED - {"convert"}
    for stage, names in alone.items():
        assert names <= both[stage], f"{stage}: results of seed 0 have other names beside seed 1's"
        assert len(both[stage]) == len(names) * (1 if stage in SHARED else 2), stage
        assert all("-seed-1-" in name for name in both[stage] - names), stage


def test_a_seed_is_that_of_training_and_nothing_before_it() -> None:
    plan, _ = planned(0, 7)
    tuned = [node for node in plan.nodes() if node.stage == "finetune"]
    assert {node.settings.seed for node in tuned} == {0, 7}
    for node in tuned:
        connector, samples = node.inputs["connector"], node.inputs["samples"]
        assert isinstance(connector, Node) and connector.settings.seed == node.settings.seed
        assert isinstance(samples, Node) and samples.players("samples")[0].settings.seed == 0


def test_cells_rest_on_every_seed_and_costs_on_one_measurement() -> None:
    plan, _ = planned(0, 1)
    scores, costs = plan.report_item("table1").settings, plan.report_item("table2").settings
    assert scores.seeds == costs.seeds == (0, 1)
    assert all(len(row.selections) == 2 and {len(cell) for cell in row.scores} == {2} for row in scores.rows)
    assert all(not row.selections and {len(cell) for cell in row.scores} == {1} for row in costs.rows)
    swept = plan.report_item("tableA1").settings.rows
    assert all(not row.selections and {len(cell) for cell in row.scores} == {2} for row in swept)


@pytest.mark.slow
def test_a_second_seed_on_a_finished_checkout(copy: Checkout) -> None:
    copy.edit("workflow/report_items/tiny.yaml", "[MME, VQAv2, MSCOCO, Flickr30k, POPE]", "[VQAv2]")
    copy.edit("workflow/report_items/tiny.yaml", "  - {title: Finetune-80K, method: finetune, data: 80K}\n", "")
    given = ("tables/tiny.csv", "--config", "seeds=[0,1]")
    assert copy.pending(*given) == {
        "connector": 1, "finetune": 1, "predict": 2, "score_captions": 1, "score_vqav2": 1, "select": 1, "table": 1,
        "publish": 1,
    }  # fmt: skip
    copy.snakemake("-c2", *given)
    with (copy.root / "tables/tiny.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    both = [_overall(copy, seed) for seed in ("", "seed-1-")]
    assert float(row["VQAv2"]) == pytest.approx(sum(both) / 2, abs=0.006)
    assert copy.pending("tables/tiny.csv") == {"table": 1, "publish": 1}, "of the first seed alone all is there"


def _overall(checkout: Checkout, seed: str) -> float:
    """The VQAv2 score of a seed's model, which the result's label names."""
    label = f"vicuna-7b-layernorm-Conv.20K-{seed}vqav2"
    (found,) = [one for one in checkout.results("score-vqav2") if one.name.rpartition("-")[0] == label]
    return float(json.loads((found / "scores.json").read_text())["overall"])
