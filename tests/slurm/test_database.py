"""A cluster with an accounting database, whose controller forgets finished jobs at once: sacct is asked by itself."""

import shutil
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster
from on_slurm import on_slurm, one_row, printed_by, start
from requirements import require_database

pytestmark = pytest.mark.slow


def test_a_job_is_followed_by_sacct_where_squeue_forgets_it(made: Checkout, tmp_path: Path) -> None:
    require_database()
    checkout = on_slurm(one_row(tmp_path / "checkout"))
    shutil.copytree(made.root / "results", checkout.root / "results")
    (samples,) = [folder for folder in checkout.results("prepare") if "80K" in folder.name]
    shutil.rmtree(samples)
    shutil.rmtree(checkout.root / "results/.works")
    wanted = f"{samples.relative_to(checkout.root)}/manifest.json"
    with Cluster.start(database=True, min_job_age=2) as cluster:
        process = start(checkout, cluster, wanted)
        try:
            process.wait(120)
        finally:
            process.kill()
        printed = printed_by(checkout)
        assert process.returncode == 0, printed[-3000:]
        recorded = cluster.run("sacct", "--allocations", "--parsable2", "--noheader", "--format=State,ReqCPUS,Comment")
    assert "Falling back to 'sacct'" in printed
    assert recorded.strip().startswith("COMPLETED|40|"), recorded
    assert (checkout.root / wanted).is_file()
