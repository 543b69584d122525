"""The rehearsal on a real Slurm: of a cell a job with GPUs of a quarter of an hour, and the table."""

import csv
import shutil
from pathlib import Path

import pytest

from checkout import Checkout, copy_checkout
from cluster import Cluster
from on_slurm import on_slurm, printed_by, start

pytestmark = pytest.mark.slow

CHOSEN = "rehearsal={llms: [vicuna-7b], methods: [lora], ranks: 1}"


def test_a_cell_is_rehearsed_in_a_job_with_gpus(cluster: Cluster, made: Checkout, tmp_path: Path) -> None:
    checkout = on_slurm(copy_checkout(tmp_path / "checkout"))
    shutil.copytree(made.root / "results", checkout.root / "results")
    before = {job.id for job in cluster.jobs()}
    process = start(checkout, cluster, "tables/rehearsal.csv", "--config", CHOSEN)
    try:
        process.wait(1800)
    finally:
        process.kill()
    assert process.returncode == 0, printed_by(checkout)[-4000:]
    with (checkout.root / "tables/rehearsal.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["method"], row["fits"], row["failed"], row["equal_after_resume"]) == ("lora", "yes", "", "True")
    (job,) = (job for job in cluster.jobs() if job.id not in before and "rule_rehearse" in job.comment)
    assert (job.partition, job.gpus, job.limit, job.state) == ("a100", "a100:1", 15, "COMPLETED")
