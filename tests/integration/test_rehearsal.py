"""The rehearsal as a user runs it: asked for by name, of the LLMs and methods that the config chooses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from checkout import Checkout, copy_checkout
from lntune.commands.plan import pending_text
from lntune.errors import UserError
from lntune.plan.pending import pending
from lntune.plan.plan import REHEARSAL, Plan
from lntune.plan.rehearsals import rehearse_node
from lntune.plan.study import Study
from lntune.stages.rehearse import REHEARSAL as FILE
from lntune.stages.rehearse import Settings
from lntune.store.record import record

CHOSEN = "rehearsal={llms: [vicuna-7b], methods: [layernorm], ranks: 2}"


def test_a_plain_run_rehearses_nothing_and_a_rehearsal_needs_no_other_result(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    assert not {"rehearse", "rehearsal"} & checkout.pending().keys()
    pending = checkout.pending("tables/rehearsal.csv", "--config", CHOSEN)
    assert pending == {"rehearse": 1, "rehearsal": 1, "publish": 1}


def test_every_llm_and_method_is_rehearsed_unless_some_are_chosen(tmp_path: Path) -> None:
    root = copy_checkout(tmp_path / "checkout").root
    plan = Plan(Study.read(root))
    table = plan.report_item(REHEARSAL)
    assert len(table.settings.rows) == len(plan.scale.llms) * len(plan.scale.methods) == 40
    trainings = {(row.model, row.method): (row.trainings, row.steps) for row in table.settings.rows if row.trainings}
    assert trainings == {("MM-VICUNA-7B", "finetune"): (2, 6), ("MM-VICUNA-7B", "layernorm"): (1, 1)}
    plan.report_item("blind")
    other = Plan(Study.read(root))
    other.report_item("blind")
    assert other.report_item(REHEARSAL).id == table.id, "whatever else was asked of the plan before"
    with pytest.raises(UserError, match=r"rehearsal\.methods\[0\]: .*layernrm.*did you mean 'layernorm'"):
        Study.read(root, {"rehearsal": {"methods": ["layernrm"]}})


@pytest.mark.slow
def test_a_cell_is_rehearsed_and_shown(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    files = ("tables/rehearsal.csv", "tables/rehearsal.md")
    chosen = CHOSEN.replace("ranks: 2", "ranks: 1")  # unit tests and those on SLURM rehearse on two
    checkout.snakemake("-c2", *files, "--config", chosen)
    with (checkout.root / files[0]).open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["fits"], row["failed"], row["equal_after_resume"], row["repeats"]) == ("yes", "", "True", "True")
    assert row["load: weights"] == "real", "the demo's are in the checkout"
    assert float(row["typical: tokens_per_second"]) > 0 and float(row["hours"]) > 0
    assert (checkout.root / files[1]).read_text().count("\n| MM-VICUNA-7B | layernorm | yes |") == 1
    assert checkout.pending(*files, "--config", chosen) == {}
    again = chosen.replace("ranks: 1", "ranks: 1, round: 2")
    assert checkout.pending(*files, "--config", again) == {"rehearse": 1, "rehearsal": 1, "publish": 2}


def rehearsed(checkout: Checkout, gpu: str) -> Plan:
    """A plan for one A100 a job, in whose store a rehearsal on this GPU is."""
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["gpu"] = {"name": "a100", "memory_gb": 85.0, "teraflops": 156.0}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    plan = Plan(Study.read(checkout.root, {"store": str(checkout.root / "results")}))
    node = rehearse_node(plan, "vicuna-7b", "finetune")
    assert isinstance(node.settings, Settings)
    parts = {"load": {"seconds": 40.0, "gpu": gpu}, "start": {"seconds": 20.0}, "typical": {"seconds": 5.0}}

    def work(out: Path, scratch: Path) -> Any:
        (out / FILE).write_text(json.dumps({"parts": parts, "failures": [], "compared": {}}))
        return {}

    record(plan.store, node.identity, node.label, work)
    return plan


def test_what_was_measured_on_the_planned_kind_of_gpu_is_used_and_said(tmp_path: Path) -> None:
    plan = rehearsed(copy_checkout(tmp_path / "checkout"), "NVIDIA A100-SXM4-80GB")
    work = pending(plan, ["tiny"])
    found = {one.name.rpartition("-")[0]: one for one in work.results if one.stage == "finetune"}
    for rate in ("0.002", "0.0005"):
        one = found[f"vicuna-7b-finetune-80K-{rate}"]
        assert (one.basis, one.seconds, one.measured_on) == ("measured", 40 + 20 + 3 * 5.0, "NVIDIA A100-SXM4-80GB")
    assert found["vicuna-7b-layernorm-Conv.20K-0.005"].basis == "predicted"
    assert "2 measured by the rehearsal on NVIDIA A100-SXM4-80GB; " in pending_text(work)


def test_what_was_measured_on_another_kind_of_gpu_is_not_used(tmp_path: Path) -> None:
    plan = rehearsed(copy_checkout(tmp_path / "checkout"), "NVIDIA H100 80GB HBM3")
    assert {one.basis for one in pending(plan, ["tiny"]).results if one.stage == "finetune"} == {"predicted"}
