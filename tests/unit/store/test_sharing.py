"""A store that several use: one may go on with what another made; a closed or full disk is one line with its cure."""

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from checkout import ROOT
from disks import GROUP, give_away, needs_root, on_disks, ordinary
from lntune.store.sharing import disk_trouble

MAKE = """
import sys
from pathlib import Path
from lntune.store.identity import Identity
from lntune.store.manifest import Store
from lntune.store.record import record
from lntune.store.sharing import disk_trouble, open_to_group

def work(out, scratch):
    (out / "inside").mkdir()
    (out / "inside" / "file").write_bytes(b"1" * 1000)
    (scratch / "checkpoint").write_bytes(b"1" * int(sys.argv[2]))
    if len(sys.argv) > 3:
        from safetensors.numpy import save_file
        import numpy
        save_file({"one": numpy.ones(10**6)}, out / "weights")
    return {}

store = Store(Path("results"))
open_to_group(store.root)
try:
    record(store, Identity("train", {"seed": sys.argv[1]}, {}, {}, {}), "toy", work)
except Exception as error:
    print(f"error: {disk_trouble(error)}")
"""


def _make(folder: Path, seed: str, umask: int) -> str:
    command = (sys.executable, "-c", MAKE, seed, "10")
    return ordinary(*command, folder=folder, umask=umask, more={"PYTHONPATH": str(ROOT / "src")}).stdout


@needs_root
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_store_with_the_setgid_bit_is_open_to_its_group_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    store = tmp_path / "results"
    store.mkdir()
    os.chown(store, -1, GROUP)
    store.chmod(0o2770)
    assert _make(tmp_path, "0", umask) == ""
    for path in store.rglob("*"):
        status = path.stat()
        wanted = stat.S_IRWXG if path.is_dir() else stat.S_IRGRP
        assert status.st_gid == GROUP and status.st_mode & wanted == wanted, path
    for path in (store, *store.rglob("*")):  # as if the other user had made it
        os.chown(path, 4001, -1)
    store.chmod(0o2770)
    assert _make(tmp_path, "0", umask) == _make(tmp_path, "1", umask) == ""
    assert len(list(store.glob("train/toy-*/manifest.json"))) == 2


@needs_root
@pytest.mark.parametrize(("folders", "files"), [(0o755, 0o644), (0o750, 0o640), (0o700, 0o600)])
def test_a_store_that_another_user_closed_is_one_line(tmp_path: Path, folders: int, files: int) -> None:
    (tmp_path / "results").mkdir()
    assert _make(tmp_path, "0", 0o022) == ""
    give_away(tmp_path / "results", folders, files)
    (tmp_path / "results").chmod(0o777)
    printed = _make(tmp_path, "1", 0o022)
    assert printed.startswith("error: results/") and printed.count("\n") == 1
    assert f"is 4001's, its mode {folders:04o} by their umask" in printed and "setgid" in printed


@needs_root
@pytest.mark.parametrize("more", [("1000000",), ("10", "weights")])
def test_a_full_disk_is_one_line_and_leaves_no_half_result(tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "src").symlink_to(ROOT / "src")
    shell = 'python="$1"; shift; "$python" "$@" || true; ls -A results/train; exit'
    mounts = f"mount -t tmpfs -o size=200k tmpfs results\n{shell}"
    printed = on_disks(mounts, sys.executable, "-c", MAKE, "0", *more, folder=tmp_path)
    first, *others = printed.splitlines()
    assert first.startswith("error: No space left on device; the disk is full") and "lntune gc" in first
    assert others == []


def test_what_libraries_say_of_a_full_disk_is_understood() -> None:
    error = RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)")
    assert str(disk_trouble(error)).startswith("No space left on device; the disk is full")
    quota = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "results/a")
    assert str(disk_trouble(quota)).startswith("results/a: Disk quota exceeded; your quota there is used up")
    assert "read-only" in str(disk_trouble(OSError(errno.EROFS, "Read-only file system", "x"))).lower()
    assert disk_trouble(ValueError("something else")) is None
