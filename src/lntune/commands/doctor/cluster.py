"""What a SLURM cluster must have: its commands, the profile's partitions, GPUs and memory on a node, accounting."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lntune.commands.doctor.machine import output_of
from lntune.commands.doctor.needs import Finding, Needs
from lntune.snakefile.profiles import cluster_of

_NAMES = "slurm/site.yaml"
_COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")


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
            yield Finding("partition", "missing", f"there is no {name!r}", f"{_NAMES}: name one of {', '.join(known)}")
        elif not any(one.up for one in nodes if one.partition == name):
            yield Finding("partition", "missing", f"{name} is down", f"wait, or name another in {_NAMES}")
        else:
            yield Finding("partition", "ok", name)
    yield from _check_nodes(needs, [one for one in nodes if one.up and (not named or one.partition in named)])
    yield _accounting()


def _check_nodes(needs: Needs, nodes: list[Nodes]) -> Iterator[Finding]:
    """One node must have what the largest job asks for."""
    file = needs.study.scale_file
    for subject, wanted, most, unit, key in (
        ("GPUs a node", needs.gpus, max((one.gpus for one in nodes), default=0), "", "gpus"),
        ("memory a node", needs.mem_mb, max((one.mem_mb for one in nodes), default=0), " MB", "mem_mb"),
        ("cores a node", needs.threads, max((one.cores for one in nodes), default=0), "", "threads"),
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
    return Finding("accounting", "ok", "no accounting database: squeue tells of jobs")
