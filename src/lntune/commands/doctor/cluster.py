"""What jobs that are submitted with a profile need: SLURM, its partitions and their nodes."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

from lntune.commands.doctor.findings import Amount, Finding, Needs, output_of
from lntune.commands.doctor.probe import probe
from lntune.config.study import ClusterSettings, Stage
from lntune.snakefile.profiles import cluster_of
from lntune.snakefile.resources import asked_minutes, most_minutes

_SITE = "slurm/site.yaml"
_COMMANDS = ("sbatch", "srun", "squeue", "scancel", "sinfo")
_A_NODE: tuple[tuple[str, Amount, str], ...] = (
    ("GPUs a node", "gpus", ""),
    ("memory a node", "mem_mb", " MB"),
    ("cores a node", "threads", ""),
)


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike: GPUs and the time limit as SLURM lists them, MB of memory, cores."""

    partition: str
    up: bool
    gres: str
    mem_mb: int
    threads: int
    limit: str

    @property
    def minutes(self) -> float:
        """The limit, infinite if there is none: ``7-00:00:00``, ``12:00:00``, ``30:00`` are days, hours, minutes."""
        found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", self.limit)
        if not found:
            return inf
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return days * 1440 + hours * 60 + minutes + seconds / 60

    @property
    def gpus(self) -> int:
        """GPUs on one node: ``gpu:a100:4(S:0-1)`` and ``gpu:4`` are four."""
        total = 0
        for one in self.gres.split(","):
            kind, *rest = one.partition("(")[0].split(":")
            if kind == "gpu":
                total += int(rest[-1]) if rest and rest[-1].isdigit() else 1
        return total


def check_cluster(needs: Needs, root: Path, profile: str, patience: float) -> Iterator[Finding]:
    """What jobs submitted with this profile need; probes of compute nodes take ``patience`` seconds at most."""
    lacking = [command for command in _COMMANDS if shutil.which(command) is None]
    if lacking:
        remedy = "run it on a login node of the cluster (perhaps: module load slurm)"
        yield Finding("SLURM", "missing", f"{', '.join(lacking)}: not on PATH", remedy)
        return
    listed = output_of("sinfo", "--noheader", "--exact", "--format=%P|%a|%G|%m|%c|%l")
    if listed is None:
        yield Finding("SLURM", "missing", "sinfo gets no answer", "ask the cluster's staff whether slurmctld is up")
        return
    yield Finding("SLURM", "ok", (output_of("sinfo", "--version") or "").strip())
    rows = [line.split("|") for line in listed.splitlines() if line.count("|") == 5]
    nodes = [
        Nodes(name.rstrip("*"), state == "up", gres, int(mem.rstrip("+")), int(cores.rstrip("+")), limit)
        for name, state, gres, mem, cores, limit in rows
    ]
    default = next((row[0].rstrip("*") for row in rows if row[0].endswith("*")), None)
    cluster = cluster_of(root, profile)
    named = [name for name in dict.fromkeys((cluster.partition, cluster.gpu_partition)) if name]
    known = {one.partition: one for one in nodes}
    for name in named:
        if name not in known:
            remedy = f"{_SITE}: name one of {', '.join(sorted(known))}"
            yield Finding("partition", "missing", f"there is no {name!r}", remedy)
        elif not any(one.up for one in nodes if one.partition == name):
            yield Finding("partition", "missing", f"{name} is down", f"wait, or name another in {_SITE}")
        else:
            yield Finding("partition", "ok", name)
    yield from _check_nodes(needs, [one for one in nodes if one.up and (not named or one.partition in named)])
    used: dict[str, dict[str, Stage]] = {}  # partition to the pending stages that go there
    for stage, given in needs.stages.items():
        place = (cluster.gpu_partition if given.gpus else None) or cluster.partition or default
        if stage not in cluster.login_node and place in known:
            used.setdefault(place, {})[stage] = given
    for place, stages in used.items():
        yield _check_limit(needs, known[place], stages, cluster)
    accounting = output_of("sacct", "--noheader", "--allocations", "--jobs=1") is not None
    yield Finding("accounting", "ok", "sacct answers" if accounting else "no accounting database: squeue shows jobs")
    if patience:
        yield from probe(needs, cluster, used, patience)


def _check_limit(needs: Needs, nodes: Nodes, stages: Mapping[str, Stage], cluster: ClusterSettings) -> Finding:
    """A partition must allow for the time that the longest job there asks for, as far as the site's file lets it."""
    asked = {one: asked_minutes(one, stages[one.stage]) for one in needs.work.results if one.stage in stages}
    longest = max(asked, key=lambda one: asked[one]).stage
    gpus = bool(stages[longest].gpus)
    minutes = min(max(asked.values()), most_minutes(cluster, gpus=gpus))
    text = f"at most {nodes.limit}, {longest} asks for up to {minutes:.0f} minutes"
    key = "gpu_time_limit" if gpus and cluster.gpu_partition else "time_limit"
    remedy = f"{_SITE}: set cluster.{key} to {nodes.minutes:.0f}: a training that is longer goes on in another job"
    short = nodes.minutes < minutes
    return Finding(f"{nodes.partition}: time", "missing" if short else "ok", text, remedy if short else "")


def _check_nodes(needs: Needs, nodes: list[Nodes]) -> Iterator[Finding]:
    """One node must have what the largest job asks for."""
    for subject, key, unit in _A_NODE:
        wanted, most = needs.most(key), max((getattr(one, key) for one in nodes), default=0)
        if wanted > most:
            text = f"at most {most:,}{unit}, a job asks for {wanted:,}{unit}"
            remedy = f"lower {key} in execution.stages of {needs.study.scale_file}, or name other partitions"
            yield Finding(subject, "missing", text, remedy)
        elif wanted:
            yield Finding(subject, "ok", f"{most:,}{unit}, jobs ask for up to {wanted:,}{unit}")
