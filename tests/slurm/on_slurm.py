"""A small checkout that asks a cluster for what a large one would ask for, and its runs there."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from checkout import Checkout, copy_checkout
from cluster import Cluster
from training_jobs import TrainingJob

REPORT_ITEM = """\
title: "Tiny: one way to tune, at two learning rates"
columns: [Flickr30k]
llms: [vicuna-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
"""
TABLE = tuple(f"tables/tiny.{suffix}" for suffix in ("csv", "md", "tex"))
GPU = {"threads": 1, "mem_mb": 100_000, "runtime": 60, "gpus": 1}
CPU = {"threads": 40, "mem_mb": 300_000, "runtime": 90}
# A job that does nothing takes 15 s so, and 40 s by the profile, which is made for jobs of hours.
QUICK = ("--slurm-init-seconds-before-status-checks", "1", "--max-status-checks-per-second", "10")


def one_row(root: Path) -> Checkout:
    """A checkout whose table has one row: one method at two learning rates."""
    checkout = copy_checkout(root)
    (root / "workflow/report_items/tiny.yaml").write_text(REPORT_ITEM)
    return checkout


def on_slurm(checkout: Checkout, login_node: Sequence[str] = ("tokenize-references",)) -> Checkout:
    """Every stage but some in jobs, with GPUs for what would need them and more CPUs than this machine has for another.

    No warning is given before a time limit, so that what is tested is the limit itself.
    """
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["device"] = "cpu"  # the cluster's GPUs are files
    scale["execution"]["stages"] = {**dict.fromkeys(("connector", "finetune", "predict"), GPU), "prepare": CPU}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    site = checkout.yaml("slurm/site.yaml")
    site |= {"scale": "tiny", "protocol": "modern"}
    site["cluster"] |= {"warning_seconds": 0, "login_node": [*login_node]}
    checkout.write_yaml("slurm/site.yaml", site)
    return checkout


def without_connector(made: Checkout, root: Path) -> tuple[Checkout, Path, dict[str, bytes]]:
    """A checkout on the cluster whose connector alone is to be made again, its folder, and the files it then holds."""
    checkout = on_slurm(one_row(root))
    shutil.copytree(made.root / "results", checkout.root / "results")
    (connector,) = checkout.results("connector")
    expected = outputs(connector)
    shutil.rmtree(connector)
    shutil.rmtree(checkout.root / "results/.works")
    return checkout, connector, expected


def outputs(folder: Path) -> dict[str, bytes]:
    """The files of a result but for its manifest."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def warn(cluster: Cluster, training: TrainingJob) -> None:
    """Once a training has written a checkpoint, signal every process of its job, as ``--signal=USR1@N`` does."""
    training.wait_until_held(400)
    (job,) = [one for one in cluster.jobs("RUNNING") if training.result in one.comment]
    cluster.run("scancel", "--signal=USR1", str(job.id))
    time.sleep(2)
    training.go_on()


def start(checkout: Checkout, cluster: Cluster, *targets: str) -> "subprocess.Popen[bytes]":
    """``snakemake --profile slurm``, with what it prints in printed.txt."""
    environment = os.environ | cluster.environment | {"PYTHONPATH": str(checkout.root / "src"), "OMP_NUM_THREADS": "1"}
    environment.pop("LNTUNE_FORK_SERVER", None)
    with (checkout.root / "printed.txt").open("wb") as printed:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *targets, "--profile", "slurm", *QUICK],
            cwd=checkout.root, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
        )  # fmt: skip


def printed_by(checkout: Checkout) -> str:
    """All that the run has printed so far."""
    return (checkout.root / "printed.txt").read_text()
