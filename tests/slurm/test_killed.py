"""Snakemake on the login node is killed while SLURM runs one of its jobs: the next run waits for that job's result."""

import json
import time
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster, wait_until
from on_slurm import outputs, printed_by, start, without_connector
from training_jobs import TrainingJob

pytestmark = pytest.mark.slow


def test_jobs_of_a_killed_run_are_waited_for(cluster: Cluster, made: Checkout, tmp_path: Path) -> None:
    checkout, connector, expected = without_connector(made, tmp_path / "checkout")
    before = {job.id for job in cluster.jobs()}
    target = f"{connector.relative_to(checkout.root)}/manifest.json"

    def jobs() -> list[str]:
        return [one.state for one in cluster.jobs() if one.id not in before and connector.name in one.comment]

    training = TrainingJob(checkout.root / "results", "connector", connector.name).watch()
    first = start(checkout, cluster, target)
    second = None
    try:
        training.wait_until_held(400)
        first.kill()
        first.wait()
        second = start(checkout, cluster, target)
        wait_until(lambda: jobs() == ["RUNNING", "PENDING"], "the second run's job behind the first one's", 400)
        time.sleep(5)
        assert jobs() == ["RUNNING", "PENDING"]  # it takes no GPU while it waits
        training.go_on()
        assert second.wait(400) == 0, printed_by(checkout)[-4000:]
    finally:
        first.kill()
        if second:
            second.kill()
        training.end()
    assert jobs() == ["COMPLETED", "COMPLETED"]
    manifest = json.loads((connector / "manifest.json").read_text())
    assert "resumed_at" not in manifest["metrics"] and training.later  # made once, by the first run's job
    assert outputs(connector) == expected
