"""``lntune doctor`` on this machine: what it finds missing, and that it changes nothing."""

import json
import os
import shutil
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from checkout import Checkout, copy_checkout
from disks import failing_calls, give_away, needs_compiler, needs_root, on_disks, ordinary_python
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
    first, empty, worst, *_ = printed.splitlines()
    assert first.startswith("tables/tiny.csv (scale tiny): 2 missing, ") and first.endswith(" ok") and not empty
    assert worst.startswith("MISSING  store ") and "-> set `store` in config.yaml" in printed


def test_of_many_targets_few_are_named(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout.root)
    targets = [f"tables/{name}.{kind}" for name in ("tiny", "data", "claims") for kind in ("csv", "md")]
    first = diagnose(checkout.root, targets).text().splitlines()[0]
    assert first.startswith(f"{', '.join(targets[:4])} and 2 more (scale tiny): ")


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
        "shape": catalog["entries"]["llama2-7b"]["shape"],  # the room that it takes is predicted from it
    }
    checkout.write_yaml("workflow/catalog.yaml", catalog)
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


@needs_root
@pytest.mark.slow
def test_disks_that_are_closed_full_or_read_only_are_found(checkout: Checkout, tmp_path: Path) -> None:
    def tried(*mounts: str, store: str = "store") -> dict[str, dict[str, str]]:
        doctor = (sys.executable, "-m", "lntune", "doctor", "--json", "tables/tiny.csv", "--config", f"store={store}")
        printed = on_disks("\n".join(mounts), *doctor, folder=checkout.root)
        return {one["subject"]: one for one in json.loads(printed)["findings"]}

    store = checkout.root / "store"
    (store / "prepare").mkdir(parents=True)
    found = tried(
        "mount -t tmpfs -o size=8k,mode=755 tmpfs store/prepare", "head -c 8192 /dev/zero > store/prepare/x || true"
    )
    assert found["store"]["state"] == "missing" and "store/prepare: cannot be written" in found["store"]["text"]
    assert "the disk is full" in found["store"]["text"]
    found = tried("mount --bind store store", "mount -o remount,ro,bind store")
    assert found["store"]["state"] == "missing" and "Read-only" in found["store"]["text"]
    found = tried("mount -t tmpfs tmpfs store/prepare")
    assert found["store"]["state"] == "degraded" and "no hard links" in found["store"]["text"]
    found = tried("mount --bind . .", "cd .", "mount -o remount,ro,bind .", 'cd "$PWD"', store=str(tmp_path))
    assert found["this folder"]["state"] == "missing" and "-d FOLDER" in found["this folder"]["remedy"]
    found = tried(f"mount -t tmpfs -o ro tmpfs {tmp_path}", f"export TMPDIR={tmp_path}")
    assert found["TMPDIR"]["state"] == "missing"
    shutil.rmtree(store)


@needs_root
@pytest.mark.slow
def test_a_store_of_a_group_is_tried_where_jobs_will_write(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "store" / "prepare").mkdir(parents=True)
    give_away(tmp_path / "store", 0o755, 0o644)
    (tmp_path / "store").chmod(0o777)
    doctor = ("lntune", "doctor", "tables/tiny.csv", "--config", f"store={tmp_path / 'store'}")
    printed = ordinary_python(checkout, *doctor, code=1)
    assert f"{tmp_path}/store/prepare: cannot be written (Permission denied)" in printed
    assert "its mode 0755 by their umask" in printed
    (tmp_path / "store" / "prepare").rmdir()
    printed = ordinary_python(checkout, *doctor)
    assert "its group may write, but your umask 0022 closes" in printed and "chmod g+s" in printed
    (tmp_path / "store").chmod(0o2777)
    assert "degraded store" not in ordinary_python(checkout, *doctor)


@needs_compiler
@pytest.mark.slow
def test_a_quota_and_a_disk_without_locks_are_found(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in failing_calls(tmp_path).items():
        monkeypatch.setenv(name, value)
    found = findings(checkout, "tables/tiny.csv", code=1)
    assert found["disk"]["state"] == "missing" and "Disk quota exceeded" in found["disk"]["text"]
    assert found["store"]["state"] == "degraded" and "no locks" in found["store"]["text"]
