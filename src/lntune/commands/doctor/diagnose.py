"""``lntune doctor``: what is missing here for a target, each thing with its remedy.

    needs, found = diagnose(Path("."), ["tables/table3.csv"], profile="slurm")
    print(findings_text(needs.work.targets, needs.work.scale, found))

It looks and asks; it changes, downloads and submits nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lntune.commands.doctor.machine import (
    check_cluster,
    check_deepspeed,
    check_disk,
    check_git,
    check_java,
    check_local_gpus,
    check_store,
)
from lntune.commands.doctor.needs import Finding, Needs, needs_of
from lntune.config.catalog import Entry, HubRepository
from lntune.download.hub import TOKEN


def diagnose(
    root: Path,
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    profile: str | None = None,
    offline: bool = False,
) -> tuple[Needs, list[Finding]]:
    """Look for everything that the targets' pending work needs.

    Args:
        root: the checkout.
        targets: as :func:`lntune.plan.targets.targets_of` takes them.
        overrides: values over config.yaml's.
        profile: the profile that jobs will be submitted with; None for jobs on this machine.
        offline: do not ask the hub about gated repositories.

    Raises:
        UserError: the config is wrong, or a target is unknown.
    """
    needs = needs_of(root, targets, overrides)
    found = [*check_git(needs), *check_store(needs), *check_disk(needs), *check_java(needs), *check_deepspeed(needs)]
    found += check_cluster(needs, root, profile) if profile else check_local_gpus(needs)
    found += [*_check_copies(needs), *_check_manual(needs), *_check_hub(needs, offline=offline)]
    return needs, found


# --- the files that are to be fetched ------------------------------------------------------------------------------


def _check_copies(needs: Needs) -> Iterator[Finding]:
    """Copies on disk that the config names, of what is still to be fetched."""
    for name, entry in needs.entries.items():
        folder = needs.study.copies_folder(name)
        if folder is None:
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
        places = [entry.place(file) for file in entry.files]
        if any(place.path is None and place.url is None and place.hub is None for place in places):
            step = entry.manual or f"get it from {entry.page}"
            yield Finding(name, "missing", "must be had by hand", f"{step}; then name its folder under `copies`")


def repositories(entry: Entry) -> list[HubRepository]:
    """The hub's repositories that an entry's files come from, each once."""
    found: list[HubRepository] = []
    for file in entry.files:
        repository = entry.place(file).hub
        if repository is not None and repository not in found:
            found.append(repository)
    return found


def _check_hub(needs: Needs, *, offline: bool) -> Iterator[Finding]:
    """The token, and whether it opens every gated repository that is to be fetched."""
    wanted = needs.to_download()
    gated = {name: entry for name, entry in wanted.items() if entry.gated}
    if gated and not os.environ.get(TOKEN):
        remedy = f"make a token in your account on the hub, and: export {TOKEN}=..."
        yield Finding(TOKEN, "missing", f"is not set; gated: {', '.join(gated)}", remedy)
    elif gated:
        yield Finding(TOKEN, "ok", "is set")
    for name, entry in gated.items():
        for repository in repositories(entry):
            yield _unasked(name) if offline else _access(name, entry, repository)


def _unasked(name: str) -> Finding:
    return Finding(f"access to {name}", "unknown", "not asked (--offline)", "run it again without --offline")


def _access(name: str, entry: Entry, repository: HubRepository) -> Finding:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    subject = f"access to {name}"
    try:
        HfApi().auth_check(repository.repo, repo_type=repository.type, token=os.environ.get(TOKEN) or False)
    except GatedRepoError:
        remedy = f"ask at {entry.page}, with the account that the token in {TOKEN} belongs to"
        return Finding(subject, "missing", f"{repository.repo} does not let you in", remedy)
    except RepositoryNotFoundError:
        remedy = f"look at {entry.page}: is the token in {TOKEN} valid?"
        return Finding(subject, "missing", f"{repository.repo} is not shown to you", remedy)
    except (HfHubHTTPError, HTTPError, OSError) as error:
        reason = type(error).__name__
        return Finding(subject, "unknown", f"the hub does not answer ({reason})", "run it where the hub can be reached")
    return Finding(subject, "ok", repository.repo)
