"""What `lntune plan` expects of jobs: results of the same kind, else predictions; and the disk of checkpoints."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import ROOT, copy_checkout, run_python
from finished import finish
from lntune.commands.doctor import Needs
from lntune.commands.doctor.disks import _check_room
from lntune.commands.plan import pending_json, pending_text
from lntune.plan.forecast import Forecast
from lntune.plan.node import Node, closure, manifest_path
from lntune.plan.pending import PendingWork, pending
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.profiles import jobs_at_once

TABLE = "tables/table3.csv"
LIMITS = {"paper": 1_980, "paper-lean": 700, "pilot": 60, "workstation": 40}
"""GPU-hours of Table 3, predicted, that a scale is meant to stay below."""

A100 = ("NVIDIA A100-SXM4-80GB",) * 4


def plan_of(store: Path, scale: str = "paper", root: Path = ROOT) -> Plan:
    protocol = "paper" if scale == "paper" else "modern"
    return Plan(Study.read(root, {"scale": scale, "protocol": protocol, "store": str(store)}))


def expected_of(work: PendingWork) -> list[tuple[str, float, int | None]]:
    return [(one.name, one.seconds, one.bytes) for one in work.results]


def of_stage(work: PendingWork, stage: str, label: str) -> Any:
    (found,) = [one for one in work.results if one.stage == stage and one.name.startswith(f"{label}-")]
    return found


def sizes(node: Node) -> float:
    """Seconds by which the two sizes of LLMs can be told apart."""
    return 130.0 if "13b" in node.label else 70.0


def test_a_finished_demo_predicts_nothing_of_the_papers_scale(tmp_path: Path) -> None:
    """Labels are alike: ``llama2-7b-finetune-80K-0.001`` is in both."""
    empty = pending(plan_of(tmp_path / "empty"), [TABLE])
    demo = finish(plan_of(tmp_path / "store", "demo"), "table3", lambda node: 1.0)
    beside = pending(plan_of(tmp_path / "store"), [TABLE])
    labels = {node.label for node in demo if node.stage == "finetune"}
    assert labels & {one.name.rpartition("-")[0] for one in beside.results if one.stage == "finetune"}
    assert expected_of(beside) == expected_of(empty)
    hours = sum(one["predicted_gpu_hours"] for one in pending_json(beside)["on_gpu"].values())
    assert 1_800 < hours < 2_200 and 2.0e12 < pending_json(beside)["bytes"] < 2.6e12


def test_miniatures_of_the_paper_on_a_cpu_predict_nothing_of_its_gpus(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "store")
    nodes = finish(plan, "table3", lambda node: 1.0)
    forecast = Forecast(plan)
    trained = [node for node in nodes if node.stage in ("connector", "finetune", "predict")]
    assert {forecast.of(node).basis for node in trained} == {"predicted"}


def test_results_of_the_same_kind_go_first(tmp_path: Path) -> None:
    """Another learning rate and seed, and another LLM of the same shape; but no other shape, method or data."""
    checkout = copy_checkout(tmp_path / "checkout")
    plan = plan_of(tmp_path / "store", "demo", checkout.root)
    finish(plan, "table3", sizes)
    scale = checkout.yaml("workflow/scales/demo.yaml")
    scale["methods"]["finetune"]["learning_rates"] = [7.0e-3]
    scale["methods"]["lora"]["learning_rates"] = [7.0e-3]
    checkout.write_yaml("workflow/scales/demo.yaml", scale)
    item = checkout.yaml("workflow/report_items/table3.yaml")
    item["rows"] = [*item["rows"][:1], {"title": "new", "method": "lora", "data": "80K"}]
    item.pop("paired_with", None)
    checkout.write_yaml("workflow/report_items/table3.yaml", item)
    work = pending(plan_of(tmp_path / "store", "demo", checkout.root), [TABLE])
    for llm, seconds in (("llama2-7b", 70.0), ("llama2-13b", 130.0)):
        tuned = of_stage(work, "finetune", f"{llm}-finetune-80K-0.007")
        assert (tuned.basis, tuned.seconds) == ("earlier", seconds)
        assert of_stage(work, "finetune", f"{llm}-lora-80K-0.007").basis == "limit", "no LoRA has been trained"
    asked = of_stage(work, "predict", "vicuna-7b-finetune-80K-0.007-flickr30k-test")
    assert (asked.basis, asked.seconds) == ("earlier", 70.0)
    scale["sources"]["instruct"]["draw"]["images"] = 6000
    checkout.write_yaml("workflow/scales/demo.yaml", scale)
    more = pending(plan_of(tmp_path / "store", "demo", checkout.root), [TABLE])
    assert of_stage(more, "finetune", "llama2-7b-finetune-80K-0.007").basis == "limit", "twice as many samples"
    assert of_stage(more, "prepare", "80K").basis == "predicted"


def test_what_ran_on_the_same_gpus_goes_before_a_prediction(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "store")
    nodes = finish(plan, "table3", sizes, A100)
    forecast = Forecast(plan)
    for node in nodes:
        if node.stage in ("connector", "finetune", "predict"):
            found = forecast.of(node)
            assert (found.basis, found.seconds) == ("earlier", sizes(node)), node.label
            assert found.memory


def test_a_training_that_was_resumed_counts_with_all_its_steps(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "store", "demo")
    connectors = [node for node in finish(plan, "table3", sizes) if node.stage == "connector"]
    for node in connectors:
        path = manifest_path(plan.store, node)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {"steps": 100, "resumed_at": 80}}))
    assert {Forecast(plan).of(node).seconds for node in connectors} == {5 * 70.0, 5 * 130.0}


def test_no_stage_of_the_papers_scale_is_counted_at_its_time_limit(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "store")
    work = pending(plan, [])
    assert {one.basis for one in work.results} == {"predicted"} and all(one.bytes is not None for one in work.results)
    seconds = {stage: sum(one.seconds for one in work.results if one.stage == stage) for stage in work.jobs()}
    assert seconds["fetch"] < 6 * 3600 and seconds["score-captions"] < 3 * 3600, "195 h and 312 h were the limits"
    printed = pending_text(work)
    assert "<" not in printed and "predicted (~)" in printed


def test_checkpoints_are_part_of_the_disk_that_is_predicted(tmp_path: Path) -> None:
    """Two at a time of weights and two moments, of the jobs that run at once."""
    plan = plan_of(tmp_path / "store")
    one, fifty = (pending(plan, [TABLE], at_once) for at_once in (1, 50))
    full = {
        one.name.partition("-finetune")[0]: one.checkpoint
        for one in one.results
        if one.stage == "finetune" and "-finetune-" in one.name
    }
    assert full["llama2-7b"] == pytest.approx(81e9, rel=0.01) and full["llama2-13b"] == pytest.approx(156e9, rel=0.01)
    assert one.checkpoint_bytes == 2 * full["llama2-13b"]
    assert fifty.checkpoint_bytes == 2 * (22 * full["llama2-13b"] + 28 * full["llama2-7b"])
    assert pending_json(fifty)["checkpoint_bytes"] == fifty.checkpoint_bytes
    (line,) = [line for line in pending_text(fifty).splitlines() if line.startswith("checkpoints: ")]
    assert line.startswith("checkpoints: up to 11.4 TB beside that")
    none = dataclasses.replace(fifty, checkpoint_bytes=0)
    assert "checkpoints" not in pending_text(none)


def test_doctor_wants_room_for_checkpoints_too(tmp_path: Path) -> None:
    work = pending(plan_of(tmp_path / "store"), [TABLE], 50)
    results = sum(one.bytes or 0 for one in work.results)
    short = dataclasses.replace(work, free_bytes=results + work.checkpoint_bytes // 2)
    needs = Needs(plan_of(tmp_path / "store").study, short, {}, {})
    found = _check_room(needs)
    assert found.state == "missing" and "11.4 TB of it checkpoints" in found.text
    enough = dataclasses.replace(work, free_bytes=results + work.checkpoint_bytes)
    found = _check_room(dataclasses.replace(needs, work=enough))
    assert found.state == "ok"


def test_as_many_jobs_run_at_once_as_the_profile_submits() -> None:
    submitted = yaml.safe_load((ROOT / "slurm" / "config.yaml").read_text())["jobs"]
    assert jobs_at_once(ROOT, "slurm") == submitted and jobs_at_once(ROOT, None) == os.cpu_count()


def test_a_search_by_halving_is_counted_by_what_it_keeps(tmp_path: Path) -> None:
    """Eleven rates to a tenth of the steps, five to 0.4, two to the end: 3.8 trainings of eleven; 18 are asked."""
    full = plan_of(tmp_path / "store")
    study = Study.read(
        ROOT, {**full.study.settings.model_dump(mode="json"), "search": {"keep": [5, 2], "at": [0.1, 0.4]}}
    )
    halved = Plan(study)
    works = {plan: pending(plan, [TABLE]) for plan in (full, halved)}
    hours = {plan: pending_json(work)["on_gpu"]["finetune"]["predicted_gpu_hours"] for plan, work in works.items()}
    assert 3.8 / 11 < hours[halved] / hours[full] < 0.4, "each round starts anew"
    tuned = [one for one in works[halved].results if "llama2-7b-finetune-80K-" in one.name and one.stage == "finetune"]
    assert len(tuned) == 33 and sum(one.chance for one in tuned) == pytest.approx(18)
    kept = [one for one in tuned if "-at-" in one.name]
    assert len(kept) == 22 and len({one.bytes for one in tuned}) == 1
    asked = [one for one in works[halved].results if "llama2-7b-finetune-80K-" in one.name and one.stage == "predict"]
    assert sum(one.chance for one in asked if "-flickr30k-test-" in one.name) == pytest.approx(18)
    (line,) = [line for line in pending_text(works[halved]).splitlines() if line.startswith("search: ")]
    first = sum(one.checkpoint for one in works[halved].results if one.stage == "finetune" and "-at-0.1-" in one.name)
    assert works[halved].waiting_bytes == first > 0 == works[full].waiting_bytes
    assert "wait for a search's choice" in line and not [
        line for line in pending_text(works[full]) if "search: " in line
    ]


def test_a_training_that_diverged_does_not_tell_how_long_one_takes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "store", "demo")
    tuned = [node for node in finish(plan, "table3", sizes) if node.stage == "finetune"]
    for node in tuned:
        path = manifest_path(plan.store, node)
        metrics = {"metrics": {"no_model": "diverged at step 3"}}
        path.write_text(json.dumps(json.loads(path.read_text()) | metrics))
    assert {Forecast(plan).of(node).basis for node in tuned} == {"limit"}


def test_wall_time_is_between_the_longest_chain_and_all_work_on_the_nodes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "store")
    one, two, many = (pending(plan, [TABLE], 50, hosts) for hosts in (1, 2, 1000))
    assert one.wall_seconds and two.wall_seconds and many.wall_seconds
    gpu_seconds = sum(result.seconds * result.gpus for result in one.results)
    for work, hosts in ((one, 1), (two, 2)):
        assert gpu_seconds / (4 * hosts) <= work.wall_seconds < 1.2 * gpu_seconds / (4 * hosts), "GPUs are seldom idle"
    forecast = Forecast(plan)
    chain: dict[Node, float] = {}
    for node in closure([plan.report_item("table3")]):
        chain[node] = forecast.of(node).seconds + max((chain[parent] for parent in node.parents()), default=0.0)
    assert many.wall_seconds == pytest.approx(max(chain.values()))
    assert one.checkpoint_bytes < many.checkpoint_bytes, "fewer trainings run at once"


@pytest.mark.parametrize("scale", LIMITS)
def test_what_table_3_costs_at_a_scale(scale: str, tmp_path: Path) -> None:
    hours = LIMITS[scale]
    study = Study.read(ROOT, {"scale": scale, "protocol": "paper", "store": str(tmp_path)})
    found = pending_json(pending(Plan(study), [TABLE]), price=2.0)
    total = sum(one["predicted_gpu_hours"] for one in found["on_gpu"].values())
    assert hours / 2 < total < hours and found["predicted_eur"] == pytest.approx(2 * total)
    assert found["predicted_node_hours"] == pytest.approx(total / (1 if scale == "workstation" else 4))
    waste = found["predicted_waste_gpu_hours"]
    assert all(value < total for value in waste.values()) and "start-up of jobs" in waste
    assert ("TF32 or float32 in place of bf16" in waste) == (scale == "paper")


def test_configs_are_compared_side_by_side() -> None:
    asked = ("tables/table3.csv", "--nodes", "2", "--price", "2", "--compare", "scale=pilot", "scale=workstation")
    done = run_python(ROOT, os.environ | {"PYTHONPATH": str(ROOT / "src")}, "lntune", "plan", *asked, apart=True)
    assert done.returncode == 0, done.stderr
    head, *lines, _, note = done.stdout.splitlines()
    assert head.split() == ["scale=pilot", "scale=workstation"] and "predicted" in note
    shown = "\n".join(lines)
    for row in ("results to make", "GPU-hours", "node-hours", "wall time on 2 nodes", "disk with checkpoints"):
        assert f"\n{row} " in f"\n{shown}"
    (money,) = [line for line in lines if line.startswith("money at 2 EUR a GPU-hour ")]
    assert money.count(" EUR") == 3
