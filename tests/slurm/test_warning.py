"""SLURM's warning before a time limit: training saves a checkpoint and ends by itself; the next job goes on from it."""

import json
import shutil
import time
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster
from on_slurm import on_slurm, one_row, printed_by, start
from training_jobs import TrainingJob

pytestmark = pytest.mark.slow


def test_the_warning_ends_in_a_checkpoint(cluster: Cluster, made: Checkout, tmp_path: Path) -> None:
    checkout = on_slurm(one_row(tmp_path / "checkout"))
    shutil.copytree(made.root / "results", checkout.root / "results")
    (connector,) = checkout.results("connector")
    expected = {path.name: path.read_bytes() for path in connector.iterdir() if path.name != "manifest.json"}
    shutil.rmtree(connector)
    shutil.rmtree(checkout.root / "results/.works")
    before = {job.id for job in cluster.jobs()}
    training = TrainingJob(checkout.root / "results", "connector", connector.name).watch()
    process = start(checkout, cluster, f"{connector.relative_to(checkout.root)}/manifest.json")
    try:
        training.wait_until_held(400)
        (job,) = [one for one in cluster.jobs("RUNNING") if connector.name in one.comment]
        cluster.run("scancel", "--signal=USR1", str(job.id))  # to every process of the job, as --signal=USR1@N does
        time.sleep(2)
        training.go_on()
        process.wait(400)
    finally:
        process.kill()
        training.end()
    printed = printed_by(checkout)
    assert process.returncode == 0, printed[-4000:]
    jobs = [one for one in cluster.jobs() if one.id not in before and connector.name in one.comment]
    assert [one.state for one in jobs] == ["FAILED", "COMPLETED"]
    manifest = json.loads((connector / "manifest.json").read_text())
    assert training.step < manifest["metrics"]["resumed_at"] < manifest["metrics"]["steps"]
    assert {path.name: path.read_bytes() for path in connector.iterdir() if path.name != "manifest.json"} == expected
