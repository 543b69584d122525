"""SLURM's warning before a time limit: training saves a checkpoint and ends by itself; the next job goes on from it."""

import json
import shutil
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster
from lntune.commands.status import status
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from on_slurm import on_slurm, one_row, outputs, printed_by, start, warn, without_connector
from training_jobs import TrainingJob

pytestmark = pytest.mark.slow


def test_the_warning_ends_in_a_checkpoint(
    cluster: Cluster, made: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, connector, expected = without_connector(made, tmp_path / "checkout")
    before = {job.id for job in cluster.jobs()}
    training = TrainingJob(checkout.root / "results", "connector", connector.name).watch()
    process = start(checkout, cluster, f"{connector.relative_to(checkout.root)}/manifest.json")
    try:
        training.wait_until_held(400)
        with monkeypatch.context() as there:
            for name, value in cluster.environment.items():
                there.setenv(name, value)
            seen = status(checkout.root / "results")
        warn(cluster, training)
        process.wait(400)
    finally:
        process.kill()
        training.end()
    printed = printed_by(checkout)
    assert process.returncode == 0, printed[-4000:]
    (run,), (running,) = seen.runs, seen.running
    assert (run.checkout, run.jobs, seen.queued) == (str(checkout.root), (running.path,), ((),))
    assert running.path == f"connector/{connector.name}" and running.progress and running.progress["unit"] == "steps"
    assert seen.slurm and [one.state for one in seen.slurm if one.id == running.slurm] == ["RUNNING"]
    assert f"SLURM job {running.slurm})" in seen.text()
    assert not list((checkout.root / "results/.jobs").glob("connector/*.state")), "nothing is left of it"
    jobs = [one for one in cluster.jobs() if one.id not in before and connector.name in one.comment]
    assert [one.state for one in jobs] == ["FAILED", "COMPLETED"]
    manifest = json.loads((connector / "manifest.json").read_text())
    assert training.step < manifest["metrics"]["resumed_at"] < manifest["metrics"]["steps"]
    assert outputs(connector) == expected


def test_a_training_goes_on_in_as_many_jobs_as_its_predicted_time_needs(
    cluster: Cluster, made: Checkout, tmp_path: Path
) -> None:
    """Forty minutes by an earlier result of its kind, thirty allowed: `retries: 0` does not stop it."""
    checkout = on_slurm(one_row(tmp_path / "checkout"))
    shutil.copytree(made.root / "results", checkout.root / "results")
    (earlier,) = checkout.results("connector")
    manifest = json.loads((earlier / "manifest.json").read_text()) | {"wall_seconds": 2400.0}
    manifest["machine"]["gpus"] = ["NVIDIA A100-SXM4-80GB"]
    (earlier / "manifest.json").write_text(json.dumps(manifest))
    scale, site = checkout.yaml("workflow/scales/tiny.yaml"), checkout.yaml("slurm/site.yaml")
    scale["connector"]["learning_rate"] = 1.0e-3
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    site["cluster"]["gpu_time_limit"] = 30
    checkout.write_yaml("slurm/site.yaml", site)
    checkout.edit("slurm/config.yaml", "retries: 3 ", "retries: 0 ")
    plan = Plan(Study.read(checkout.root, {"scale": "tiny", "store": str(checkout.root / "results")}))
    connector = plan.connector("vicuna-7b", "clip", 0).name
    before = {job.id for job in cluster.jobs()}
    training = TrainingJob(checkout.root / "results", "connector", connector).watch()
    process = start(checkout, cluster, f"results/connector/{connector}/manifest.json")
    try:
        warn(cluster, training)
        process.wait(400)
    finally:
        process.kill()
        training.end()
    assert process.returncode == 0, printed_by(checkout)[-4000:]
    jobs = [one for one in cluster.jobs() if one.id not in before and connector in one.comment]
    assert [(one.state, one.limit) for one in jobs] == [("FAILED", 30), ("COMPLETED", 30)]
