"""``lntune doctor`` on this machine: what it finds missing, and that it changes nothing."""

import json
import os
import shutil
import subprocess
from math import inf
from pathlib import Path

import pytest

from checkout import Checkout, copy_checkout
from lntune.commands.doctor import diagnose
from lntune.commands.doctor.cluster import Nodes
from local_hub import LocalHub


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return copy_checkout(tmp_path_factory.mktemp("doctor") / "checkout")


def findings(checkout: Checkout, *arguments: str, code: int = 0) -> dict[str, dict[str, str]]:
    printed = checkout.run("lntune", "doctor", "--json", *arguments, code=code)
    return {one["subject"]: one for one in json.loads(printed)["findings"]}


def with_gpus(checkout: Checkout, gpus: int) -> None:
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["stages"] = {"finetune": {"gpus": gpus}}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)


def test_nothing_is_missing_for_the_demo(checkout: Checkout) -> None:
    before = sorted(path for path in checkout.root.rglob("*") if "__pycache__" not in path.parts)
    found = findings(checkout, "tables/tiny.csv")
    assert found["Java"]["state"] == found["store"]["state"] == found["disk"]["state"] == "ok"
    assert sorted(path for path in checkout.root.rglob("*") if "__pycache__" not in path.parts) == before
    assert "GPUs" not in found and "SLURM" not in found


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(checkout: Checkout) -> None:
    with_gpus(checkout, 4)
    found = findings(checkout, "tables/tiny.csv", code=1)
    assert found["GPUs"]["state"] == "missing" and "--profile slurm" in found["GPUs"]["remedy"]
    assert "torch finds 0 of 4: no NVIDIA driver" in found["GPUs"]["text"]
    with_gpus(checkout, 0)


def test_a_copy_that_lacks_files(checkout: Checkout, tmp_path: Path) -> None:
    shutil.copy(checkout.root / "workflow/weights/clip/open_clip_config.json", tmp_path)
    given = ("--config", f"copies={{demo-clip: {tmp_path}, demo-llama2-7b: {tmp_path}}}")
    found = findings(checkout, "tables/tiny.csv", *given, code=1)
    assert found["copy of demo-clip"]["text"] == f"{tmp_path} lacks open_clip_model.safetensors"
    assert "copy of demo-llama2-7b" not in found, "it is not needed for this table"


def test_a_store_that_cannot_be_written(checkout: Checkout) -> None:
    found = findings(checkout, "tables/tiny.csv", "--config", "store=/proc/results", code=1)
    assert found["store"]["state"] == "missing" and "store" in found["store"]["remedy"]


def test_the_text_has_a_remedy_for_each_thing_missing(checkout: Checkout) -> None:
    printed = checkout.run("lntune", "doctor", "tables/tiny.csv", "--config", "store=/proc/results", code=1)
    assert "MISSING  store" in printed and "-> set `store` in config.yaml" in printed and "2 missing" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a checkout to another user")
def test_a_checkout_that_git_mistrusts_is_told_how_git_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_checkout(tmp_path / "a checkout").root
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    os.chown(root, 65534, 65534)
    monkeypatch.chdir(root)
    found = diagnose(root, ["tables/tiny.csv"]).findings[0]  # by the lntune of another checkout
    assert found.state == "degraded" and found.remedy == f"git config --global --add safe.directory '{root}'"


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:a100:4", 4),
        ("gpu:a100:8(S:0-1)", 8),
        ("gpu:2,shard:8", 2),
        ("(null)", 0),
        ("gpu:a100:4,gpu:h100:2", 6),
        ("gpu", 1),
        ("craynetwork:4,gpu:v100:no_consume:4(S:0,1)", 4),
    ],
)
def test_gpus_as_slurm_lists_them(gres: str, gpus: int) -> None:
    assert Nodes("a100", True, gres, 1000, 8, "infinite").gpus == gpus


@pytest.mark.parametrize(
    ("limit", "minutes"), [("7-00:00:00", 10080), ("12:00:00", 720), ("30:00", 30), ("infinite", inf), ("n/a", inf)]
)
def test_time_limits_as_slurm_lists_them(limit: str, minutes: float) -> None:
    assert Nodes("a100", True, "(null)", 1000, 8, limit).minutes == minutes


@pytest.mark.slow
def test_gated_repositories_are_asked_for(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client asks a hub that stands in: without a token, with one that has no access, with one that has."""
    repository = "someone/gated"
    (tmp_path / "hub" / "models" / repository).mkdir(parents=True)
    (tmp_path / "hub" / "models" / repository / "config.json").write_text("{}")
    catalog = checkout.yaml("workflow/catalog.yaml")
    saved = json.loads(json.dumps(catalog))
    catalog["entries"]["demo-vicuna-7b"] |= {
        "hub": {"repo": repository, "type": "model", "revision": "main"},
        "gated": True,
        "page": "https://example.org/ask",
        "files": {"config.json": {}},
    }
    checkout.write_yaml("workflow/catalog.yaml", catalog)
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["llms"]["vicuna-7b"]["size"] = "7B"  # the room that it takes is predicted from it
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    with LocalHub(tmp_path / "hub", gated={repository: {"hf_good"}}) as hub:
        for name in [*os.environ]:
            if name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        subject = "access to demo-vicuna-7b"
        found = findings(checkout, "tables/tiny.csv", code=1)
        assert found["HF_TOKEN"]["state"] == "missing" and found[subject]["state"] == "missing"
        monkeypatch.setenv("HF_TOKEN", "hf_stranger")
        found = findings(checkout, "tables/tiny.csv", code=1)
        assert found["HF_TOKEN"]["state"] == "ok" and "https://example.org/ask" in found[subject]["remedy"]
        monkeypatch.setenv("HF_TOKEN", "hf_good")
        assert findings(checkout, "tables/tiny.csv")[subject] == {
            "subject": subject, "state": "ok", "text": repository, "remedy": "",
        }  # fmt: skip
        assert findings(checkout, "tables/tiny.csv", "--offline")[subject]["state"] == "unknown"
    found = findings(checkout, "tables/tiny.csv")
    assert found[subject]["state"] == "unknown" and "does not answer" in found[subject]["text"]
    checkout.write_yaml("workflow/catalog.yaml", saved)
