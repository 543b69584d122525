"""``lntune doctor --profile slurm``: real probes of a node, through srun."""

import json
from pathlib import Path

import pytest
import torch

from checkout import Checkout
from cluster import Cluster, wait_until
from on_slurm import GPU, on_slurm, one_row

pytestmark = pytest.mark.slow

Findings = dict[str, dict[str, str]]


@pytest.fixture
def checkout(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    checkout = on_slurm(one_row(tmp_path / "checkout"))
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["stages"]["prepare"] = {"mem_mb": 900}
    scale["execution"]["stages"]["connector"] = {"mem_mb": 900, "runtime": 3000}  # on a CPU nothing predicts it
    scale["execution"]["stages"]["predict"] = GPU | {"mem_mb": 999_000}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    return checkout


def edit(checkout: Checkout, file: str, key: str, name: str, value: str) -> None:
    content = checkout.yaml(file)
    content[key][name] = value
    checkout.write_yaml(file, content)


def findings(checkout: Checkout, *arguments: str) -> Findings:
    before = {path for path in checkout.root.rglob("*") if "__pycache__" not in path.parts}
    printed = checkout.run("lntune", "doctor", "--json", "--profile", "slurm", *arguments, code=1)
    assert {path for path in checkout.root.rglob("*") if "__pycache__" not in path.parts} == before
    return {one["subject"]: one for one in json.loads(printed)["findings"]}


def test_a_node_of_each_partition_tells_what_jobs_would_find(checkout: Checkout, cluster: Cluster) -> None:
    edit(checkout, "workflow/scales/tiny.yaml", "execution", "device", "auto")
    found = findings(checkout)
    for partition in ("cpu", "a100"):
        assert f"{cluster.nodes[0]}: this checkout" in found[f"{partition}: node"]["text"]
        for what in ("node", "store", "Java"):
            assert found[f"{partition}: {what}"]["state"] == "ok", found
    assert found["cpu: memory"]["state"] == "ok" and found["a100: memory"]["state"] == "missing"
    assert "a job asks for 999,000 MB" in found["a100: memory"]["text"]
    assert found["cpu: time"]["state"] == "missing" and found["a100: time"]["state"] == "ok"
    assert "at most 1-00:00:00, connector asks for up to 3000 minutes" in found["cpu: time"]["text"]
    assert "cpu: GPUs" not in found
    if not torch.cuda.is_available():
        assert found["a100: GPUs"]["state"] == "missing" and "580 or newer" in found["a100: GPUs"]["remedy"]
        assert "torch finds 0 of 1: no NVIDIA driver" in found["a100: GPUs"]["text"]


def test_a_probe_that_does_not_start_is_no_failure_of_the_others(checkout: Checkout, cluster: Cluster) -> None:
    busy = cluster.run("sbatch", "--parsable", "--partition=a100", "--gpus=4", "--output=/dev/null", "--wrap=sleep 900")
    wait_until(lambda: cluster.jobs("RUNNING"), "the GPUs to be busy")
    found = findings(checkout, "--wait", "30")
    cluster.run("scancel", busy.strip())
    assert found["cpu: node"]["state"] == "ok"
    assert found["a100: node"]["state"] == "unknown"
    assert "after 30 s the probe has not started" in found["a100: node"]["text"]
    assert not cluster.jobs("PENDING"), "the probe is still queued"
    edit(checkout, "slurm/site.yaml", "cluster", "gpu_model", "h100")
    found = findings(checkout, "--wait", "30")
    assert found["a100: node"]["state"] == "missing" and "slurm/site.yaml" in found["a100: node"]["remedy"]
    said = "takes no job: srun ended with exit code 1: srun: error: Unable to allocate resources"
    assert found["a100: node"]["text"].startswith(said)
    assert found["cpu: node"]["state"] == "ok"
