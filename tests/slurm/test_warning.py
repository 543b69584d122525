"""SLURM's warning before a time limit: training saves a checkpoint and ends by itself; the next job goes on from it."""

import json
import shutil
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster
from lntune.commands.status import status
from on_slurm import outputs, printed_by, start, warn, without_connector
from training_jobs import TrainingJob

pytestmark = pytest.mark.slow


def test_the_warning_ends_in_a_checkpoint_and_another_job_goes_on(
    cluster: Cluster, made: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty minutes by an earlier result of its kind, thirty allowed: `retries: 0` does not stop it."""
    checkout, connector, expected = without_connector(made, tmp_path / "checkout")
    of_its_kind(made.results("connector")[0], checkout.root / "results/connector", wall_seconds=2400.0)
    site = checkout.yaml("slurm/site.yaml")
    site["cluster"]["gpu_time_limit"] = 30
    checkout.write_yaml("slurm/site.yaml", site)
    checkout.edit("slurm/config.yaml", "retries: 3 ", "retries: 0 ")
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
    assert [(one.state, one.limit) for one in jobs] == [("FAILED", 30), ("COMPLETED", 30)]
    manifest = json.loads((connector / "manifest.json").read_text())
    assert training.step < manifest["metrics"]["resumed_at"] < manifest["metrics"]["steps"]
    assert outputs(connector) == expected


def of_its_kind(result: Path, stage: Path, wall_seconds: float) -> None:
    """Put there what a result would be that had another learning rate and took so long on an A100."""
    manifest = json.loads((result / "manifest.json").read_text())
    manifest |= {"id": "0" * 12, "wall_seconds": wall_seconds}
    manifest["settings"]["training"]["learning_rate"] *= 2
    manifest["machine"]["gpus"] = ["NVIDIA A100-SXM4-80GB"]
    earlier = stage / f"{manifest['label']}-{manifest['id']}"
    shutil.copytree(result, earlier)
    (earlier / "manifest.json").unlink()
    (earlier / "manifest.json").write_text(json.dumps(manifest))
