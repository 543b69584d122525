"""The disks that jobs write to: each is tried as a job will use it, as far as something pending needs it."""

import ctypes
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lntune.commands.doctor import Finding, Needs, checked
from lntune.files import link, write_whole
from lntune.plan.pending import nearest_folder, summed
from lntune.store.sharing import disk_trouble
from lntune.units import bytes_text


def check_disks(needs: Needs) -> Iterator[Finding]:
    """The store, the room in it, TMPDIR and the folder of the run."""
    store = needs.study.store
    inside = [f"{above}{stage}" for stage in needs.stages for above in ("", ".works/", ".jobs/")]
    if inside:
        yield _tried("store", [store, store / ".scratch", *(store / name for name in inside)],
                     "set `store` in config.yaml to a folder that you may write")  # fmt: skip
        yield from _check_group(nearest_folder(store))
    else:
        yield Finding("store", "ok", f"{store}: nothing is pending, so nothing is written")
    yield _check_room(needs)
    temporary = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    yield _tried("TMPDIR", [temporary], "export TMPDIR=FOLDER, one with room that you may write")
    parts = [Path(name) for name in (".snakemake", "logs", "tables", "figures", "site")]
    yield _tried("this folder", parts, "run in a folder of your own: `snakemake -d FOLDER`")


def _tried(subject: str, wanted: list[Path], remedy: str) -> Finding:
    folders = list(dict.fromkeys(map(nearest_folder, wanted)))
    lacks = dict[str, None]()
    for folder in folders:
        try:
            with tempfile.TemporaryDirectory(prefix=".lntune-doctor-", dir=folder) as there:
                lacks |= dict.fromkeys(_lacks(Path(there), folders[0]))
        except OSError as error:
            text = f"{folder}: cannot be written ({error.strerror}): {disk_trouble(error) or error}"
            return Finding(subject, "missing", text, remedy)
    if lacks and subject == "store":
        remedy = "works, but what is linked is copied, or two jobs may do the same work; another disk has both"
        return Finding(subject, "degraded", f"{folders[0]}: has no {' and no '.join(lacks)}", remedy)
    return Finding(subject, "ok", f"{folders[0]}: can be written, linked and locked")


def _lacks(folder: Path, first: Path) -> Iterator[str]:
    """Write a block to the disk, rename, link and lock it; what there is not. OSError if it cannot be written."""
    path = folder / "file"
    write_whole(path, b"\1" * 4096, durable=True)
    with tempfile.TemporaryDirectory(prefix=".lntune-doctor-", dir=first) as other, path.open("rb") as file:
        if not link(path, Path(other, "link")):
            yield "hard links"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield "locks"


def _check_group(store: Path) -> Iterator[Finding]:
    """Whether a group that may write into the store may go on with what this user makes there."""
    mode, umask = store.stat().st_mode, os.umask(0o022)
    os.umask(umask)
    if mode & stat.S_IWGRP and umask & stat.S_IRWXG and not mode & stat.S_ISGID:
        text = f"{store}: its group may write, but your umask {umask:04o} closes what you make there to it"
        yield Finding("store's group", "degraded", text, f"set the setgid bit (chmod g+s {store}), or umask 002")


def _check_room(needs: Needs) -> Finding:
    """Room for what the plan predicts, downloads and checkpoints included."""
    work = needs.work
    checkpoints = work.checkpoint_bytes + work.waiting_bytes
    wanted = summed(work.results)[1] + checkpoints
    unknown = sum(one.unknown for one in work.results if not one.linked)
    more = f", and {unknown} files of unknown size" if unknown else ""
    kept = f", {bytes_text(checkpoints)} of it checkpoints" if checkpoints else ""
    text = f"{bytes_text(work.free_bytes)} free, {bytes_text(wanted)} predicted{kept}{more}"
    remedy = "set `store` in config.yaml to a larger disk, or free some: `lntune gc`"
    if 0 < 2 * wanted < work.free_bytes and (refused := _refusal(nearest_folder(needs.study.store), wanted)):
        return Finding("disk", "missing", f"{text}, but: {refused}", remedy)
    return checked("disk", work.free_bytes >= wanted, text, remedy)


def _refusal(folder: Path, size: int) -> str:
    """Why a disk does not set so many bytes aside for a moment, though it has them: a quota may allow less; else ""."""
    allocate = ctypes.CDLL(None, use_errno=True).fallocate
    allocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            failed = allocate(file.fileno(), 0, 0, size)
    except OSError:
        return ""  # what is tried of the store tells of it
    number = ctypes.get_errno() if failed else 0
    return os.strerror(number) if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
