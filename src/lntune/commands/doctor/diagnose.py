"""``lntune doctor``: what is missing here for a target, each thing with its remedy.

    needs, found = diagnose(Path("."), ["tables/table3.csv"], profile="slurm")
    print(findings_text(needs.work.targets, needs.work.scale, found))

It looks and asks; it changes, downloads and submits nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lntune.commands.doctor.access import check_copies, check_hub, check_manual
from lntune.commands.doctor.cluster import check_cluster
from lntune.commands.doctor.machine import (
    check_deepspeed,
    check_disk,
    check_git,
    check_java,
    check_local_gpus,
    check_store,
)
from lntune.commands.doctor.needs import Finding, Needs, needs_of


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
    found += [*check_copies(needs), *check_manual(needs), *check_hub(needs, offline=offline)]
    return needs, found
