"""Two nodes, neither of which has all the GPUs that a job asks for: the job waits for one that has."""

import shutil
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster, wait_until
from on_slurm import GPU, on_slurm, one_row, printed_by, start
from requirements import require_slurm

pytestmark = pytest.mark.slow


def test_a_job_is_not_split_between_two_nodes_that_have_its_gpus_together(made: Checkout, tmp_path: Path) -> None:
    """Slurm 22.05 gives ``--gpus=a100:4`` three of one node and one of another; ``srun --nodes=1`` then fails."""
    require_slurm()
    checkout = on_slurm(one_row(tmp_path / "checkout"))
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["stages"]["connector"] = GPU | {"gpus": 4}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    shutil.copytree(made.root / "results", checkout.root / "results")
    (connector,) = checkout.results("connector")
    shutil.rmtree(connector)
    shutil.rmtree(checkout.root / "results/.works")
    with Cluster.start(nodes=2) as cluster:
        for node in cluster.nodes:
            where = ("--partition=a100", "--gpus=a100:1", f"--nodelist={node}", "--output=/dev/null")
            cluster.run("sbatch", *where, "--wrap=sleep 900")
        wait_until(lambda: len(cluster.jobs("RUNNING")) == 2, "both nodes to be busy")
        first, _ = cluster.jobs("RUNNING")
        process = start(checkout, cluster, f"{connector.relative_to(checkout.root)}/manifest.json")
        try:
            wait_until(lambda: len(cluster.jobs()) > 2, "the job's submission", 120)
            wait_until(lambda: cluster.jobs()[2].nodes == "1-1" or process.poll() is not None, "the job's wait", 60)
            assert cluster.jobs()[2].state == "PENDING", cluster.jobs()[2]
            cluster.run("scancel", str(first.id))
            process.wait(300)
        finally:
            process.kill()
        assert process.returncode == 0, printed_by(checkout)[-4000:]
        (job,) = [one for one in cluster.jobs() if connector.name in one.comment]
    assert (job.state, job.gpus, job.nodes) == ("COMPLETED", "a100:4", "1")
