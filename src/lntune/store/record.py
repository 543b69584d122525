"""Make a result and put it in its place, whole or not at all, whenever a process is killed.

The work writes into a hidden folder next to the final one, which is renamed into place once its files are hashed and
its manifest is written. Of several processes that make the same result, one works and the others wait for it.
"""

import errno
import json
import os
import platform
import re
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from lntune.environment import job_environment
from lntune.files import flush, locked
from lntune.store.identity import Identity, canonical_json, hash_tree
from lntune.store.job import EARLIER, LEFT
from lntune.store.leases import host_name, is_alive
from lntune.store.manifest import (
    MANIFEST,
    AcceptedEdit,
    Git,
    InputRecord,
    Machine,
    Manifest,
    Store,
    content_digest,
    input_names,
    input_record,
    read_manifest,
    write_manifest,
)
from lntune.store.reuse import find, linked, mark, work_of

Work = Callable[[Path, Path], Mapping[str, JsonValue]]


def record(
    store: Store,
    identity: Identity,
    label: str,
    work: Work,
    *,
    inputs: Mapping[str, Path | Sequence[Path]] | None = None,
    execution: Mapping[str, JsonValue] | None = None,
    seed: int | None = None,
    ranks: int = 1,
    accepted: Sequence[AcceptedEdit] = (),
    announce: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Make one result unless it is there, or link it if its work was done under another name; return its manifest.

    ``work(out, scratch)`` fills the empty folder ``out`` and returns metrics. What it keeps in ``scratch`` outlives an
    exception or a kill. Once the result is in place it is deleted, unless it is LEFT to the job whose EARLIER this is,
    which then begins with it. ``inputs`` are the finished folders that play each role of ``identity.inputs``; a folder
    in a result's folder stands for that part of it. ``execution``, ``seed`` and ``ranks`` are noted, as are the
    ``accepted`` edits, which the identity leaves out. ``announce`` is called with where a linked result comes from.

    UserError if an input's manifest is missing or damaged, or the work left what is no plain file; ValueError if the
    inputs' ids are not those of the identity, or a metric is not finite. What the work raises goes on.
    """
    final = store.folder(identity.stage, label, identity.id)
    if (final / MANIFEST).is_file():
        return read_manifest(final / MANIFEST)
    scratch = store.scratch(identity.stage, identity.id)
    final.parent.mkdir(parents=True, exist_ok=True)

    def announce_wait() -> bool:
        print(f"{final}: another process is making this; waiting for it", file=sys.stderr, flush=True)
        return True

    with locked(scratch.with_name(scratch.name + ".lock"), announce_wait):
        if (final / MANIFEST).is_file():
            return read_manifest(final / MANIFEST)
        _remove_leftovers(final)
        records = _input_records(identity, inputs or {})
        noted = partial(
            Manifest, label=label, inputs=records, execution=dict(execution or {}), seed=seed, accepted=tuple(accepted)
        )
        did = work_of(identity, records)
        left = _take_over(store, records.get(EARLIER), scratch)
        built = final.with_name(f".{final.name}.{host_name()}.{os.getpid()}.{secrets.token_hex(4)}")
        built.mkdir()
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            found = find(store, identity.stage, did)
            manifest = linked(found, built, identity, label, records) if found else None
            if found and manifest:
                announce(f"linked from {manifest.stage}/{found.name}")
                with suppress(OSError):  # what it left, if anything, is for what this is EARLIER of
                    os.rename(store.scratch(identity.stage, found.name.rpartition("-")[2]), scratch)
            else:
                manifest = _make(identity, noted, ranks, work, built, scratch)
            _seal(built, manifest.outputs)
            write_manifest(built / MANIFEST, manifest)
            mark(store, did, manifest)
            ours = _install(built, final)
            for spent in (left, None if (scratch / LEFT).exists() else scratch):
                if spent:
                    shutil.rmtree(spent, ignore_errors=True)
        finally:
            shutil.rmtree(built, ignore_errors=True)
            with suppress(OSError):
                scratch.rmdir()  # unless something is kept there
    return manifest if ours else read_manifest(final / MANIFEST)


def _take_over(store: Store, earlier: InputRecord | tuple[InputRecord, ...] | None, scratch: Path) -> Path | None:
    """Make what an earlier job has left this one's scratch, unless this has its own; return where the earlier's is."""
    left = store.scratch(earlier.stage, earlier.id) if isinstance(earlier, InputRecord) else None
    if left:
        with suppress(OSError):  # it left nothing, or this has its own
            os.rename(left, scratch)
    (scratch / LEFT).unlink(missing_ok=True)  # that was for this job
    return left


def _make(
    identity: Identity, noted: Callable[..., Manifest], ranks: int, work: Work, out: Path, scratch: Path
) -> Manifest:
    """Do the work in ``out``, and return ``noted`` made a whole manifest."""
    git = git_state(Path(__file__).resolve().parent)  # now: an edit during the work is not what runs
    started, clock, cpu_before = datetime.now(UTC), time.monotonic(), cpu_seconds()
    metrics = json.loads(canonical_json(dict(work(out, scratch))))
    cpu_taken = cpu_seconds() - cpu_before
    outputs = hash_tree(out)
    assert MANIFEST not in outputs, "the manifest is written here, not by the work"
    document = json.loads(canonical_json(identity.document()))
    return noted(
        stage=identity.stage,
        id=identity.id,
        settings=document["settings"],
        outputs=outputs,
        content=content_digest(outputs),
        code=document["code"],
        packages=document["packages"],
        environment=document.get("environment", {}),
        git=git,
        machine=machine(ranks),
        started=started,
        ended=datetime.now(UTC),
        wall_seconds=round(time.monotonic() - clock, 3),
        cpu_seconds=round(cpu_taken, 3),
        peak_memory_bytes=peak_memory_bytes(),
        metrics=metrics,
    )


def _seal(folder: Path, names: Collection[str]) -> None:
    """Bring files to the disk and make them read-only for all whom the umask allows to read.

    Linked results share their files, so that a write to one in place would change them all.
    """
    umask = os.umask(0)
    os.umask(umask)
    for inside in {parent for name in names for parent in Path(name).parents}:
        flush(folder / inside)  # else a name may be lost in a power cut
    for name in names:
        flush(folder / name)
        with suppress(PermissionError):  # a file that is linked from another user's result
            os.chmod(folder / name, 0o444 & ~umask)


def _input_records(
    identity: Identity, inputs: Mapping[str, Path | Sequence[Path]]
) -> dict[str, InputRecord | tuple[InputRecord, ...]]:
    records: dict[str, InputRecord | tuple[InputRecord, ...]] = {
        role: input_record(given) if isinstance(given, Path) else tuple(input_record(folder) for folder in given)
        for role, given in inputs.items()
    }
    names, expected = input_names(records), identity.document()["inputs"]
    if names != expected:
        raise ValueError(f"{identity.stage} was named after the inputs {expected}, but was given {names}")
    return records


def _install(built: Path, final: Path) -> bool:
    """Rename the finished folder into place; False if another process's result is there first.

    What stands there without a manifest gives way: Snakemake makes the folders of declared outputs.
    """
    while True:
        try:
            os.rename(built, final)  # replaces an empty folder
            flush(final.parent)
            return True
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if (final / MANIFEST).is_file():
            return False
        remains = built.with_name(built.name + ".old")
        os.rename(final, remains)
        shutil.rmtree(remains)


def _remove_leftovers(final: Path) -> None:
    """Delete what processes of this host left next to the final folder when they were killed."""
    pattern = re.compile(re.escape(f".{final.name}.{host_name()}.") + r"(\d+)\.[0-9a-f]{8}(\.old)?")
    for entry in list(os.scandir(final.parent)):
        match = pattern.fullmatch(entry.name)
        if match and not is_alive(int(match[1])):
            shutil.rmtree(entry.path, ignore_errors=True)


def git_state(folder: Path) -> Git | None:
    """The commit that a folder's checkout stands at; None without git, a repository or a first commit."""
    # Git mistrusts what another user owns, since its config may name programs. This one's code runs here anyway.
    trusted = f"safe.directory={Path(__file__).resolve().parents[3]}"
    command = ("git", "-c", trusted, "--no-optional-locks", "status", "--porcelain=v2", "--branch")
    listed = output_of(*command, folder=folder) or ""
    commit = re.search(r"^# branch\.oid (\w+)$", listed, re.M)
    return Git(commit=commit[1], dirty=any(line[0] != "#" for line in listed.splitlines())) if commit else None


def output_of(*command: str, folder: Path | None = None) -> str | None:
    """What a command prints in a job's environment; None if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, cwd=folder, env=job_environment(), capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")


def machine(ranks: int) -> Machine:
    """This host and what of it the process may use; ``ranks`` processes share the work."""
    torch = sys.modules.get("torch")  # loading it here would cost seconds for nothing
    cuda = torch.cuda if torch and torch.cuda.is_available() else None
    gpus = tuple(cuda.get_device_name(index) for index in range(cuda.device_count())) if cuda else ()
    return Machine(
        host=socket.gethostname(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpus=gpus,
        ranks=ranks,
        slurm_job_id=os.environ.get("SLURM_JOB_ID"),
    )


def peak_memory_bytes() -> int:
    """The most resident memory that this process, or any one of its children that ended, ever held."""
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB


def cpu_seconds() -> float:
    """CPU time, user and system, that this process and those of its children that ended have taken so far."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
