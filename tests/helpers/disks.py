"""Other people's disks: an ordinary user where root runs the tests, disks of a test's own, calls that fail."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from checkout import Checkout

GROUP, OTHER = 4000, 4001
"""A group that the ordinary user is in, and another user, whose files it may not change."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user and mount disks")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler for the calls that fail")

_SHIM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
int flock(int fd, int how) { errno = ENOLCK; return getenv("LNTUNE_NO_LOCKS") ? -1 : 0; }
int fallocate(int fd, int mode, long from, long size) { errno = EDQUOT; return -1; }
int fallocate64(int fd, int mode, long from, long size) { errno = EDQUOT; return -1; }
"""


def failing_calls(folder: Path) -> dict[str, str]:
    """The environment in which no lock is known and a quota allows nothing more."""
    (folder / "shim.c").write_text(_SHIM)
    library = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "shim.c"], check=True, capture_output=True)
    return {"LD_PRELOAD": str(library), "LNTUNE_NO_LOCKS": "1"}


def _ordinary() -> None:
    """Take from root all that it may do beyond an ordinary user; it is then one, whose number happens to be 0."""
    libc = ctypes.CDLL(None)
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; exec leaves no more than this set
    os.setgroups([GROUP])


def ordinary(
    *command: str | Path, folder: Path, umask: int = 0o022, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as an ordinary user of the group."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"} | dict(more or {})
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        preexec_fn=_ordinary,
        umask=umask,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )


def ordinary_python(checkout: Checkout, *arguments: str, code: int = 0, umask: int = 0o022) -> str:
    """Run a Python module in a checkout as an ordinary user of the group; return all it printed."""
    done = ordinary(sys.executable, "-m", *arguments, folder=checkout.root, umask=umask)
    assert done.returncode == code, done.stdout[-4000:]
    return done.stdout


def on_disks(mounts: str, *command: str | Path, folder: Path) -> str:
    """Run a command where first some shell lines have mounted disks, which nobody else sees; what it printed."""
    script = f'{mounts}\nexec "$@"'
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    done = subprocess.run(
        ["unshare", "-m", "bash", "-ec", script, "bash", *command],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
    )  # fmt: skip
    if "mount" in done.stdout and "denied" in done.stdout:
        pytest.skip("this sandbox lets nobody mount")
    return done.stdout


def give_away(folder: Path, folders: int, files: int) -> None:
    """Make a folder and all in it the other user's, with these modes."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, OTHER, GROUP, follow_symlinks=False)
        path.chmod(folders if path.is_dir() else files)
