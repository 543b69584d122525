"""What a target still needs of a machine or a cluster, read from the plan, and what was found of it there."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lntune.config.catalog import Entry
from lntune.config.study import Stage
from lntune.plan.pending import PendingWork, pending
from lntune.plan.plan import Plan
from lntune.plan.study import Study

State = Literal["ok", "missing", "degraded", "unknown"]

_MARK: dict[State, str] = {"ok": "ok", "missing": "MISSING", "degraded": "degraded", "unknown": "?"}


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


def findings_text(targets: Sequence[str], scale: str, found: Sequence[Finding]) -> str:
    """A line for each finding, its remedy below it, and the sum."""
    lines = [f"{', '.join(targets)} (scale {scale})", ""]
    width = max(len(one.subject) for one in found) + 2
    for one in found:
        lines.append(f"{_MARK[one.state]:<9}{one.subject:<{width}}{one.text}")
        if one.remedy:
            lines.append(f"{'':<{9 + width}}-> {one.remedy}")
    missing = sum(one.state == "missing" for one in found)
    unknown = sum(one.state == "unknown" for one in found)
    summary = f"{missing} missing" if missing else "nothing is missing"
    return "\n".join([*lines, "", summary + (f", {unknown} could not be seen from here" if unknown else "")])


def findings_json(targets: Sequence[str], scale: str, found: Sequence[Finding]) -> dict[str, Any]:
    """The same for scripts."""
    return {"targets": list(targets), "scale": scale, "findings": [asdict(one) for one in found]}


@dataclass(frozen=True)
class Needs:
    """Pending work and what it needs.

    Attributes:
        study: the config and all that it names.
        work: what is pending.
        stages: what a job of each pending stage is given.
        entries: catalogue entries that are to be fetched.
    """

    study: Study
    work: PendingWork
    stages: Mapping[str, Stage]
    entries: Mapping[str, Entry]

    def most(self, key: Literal["gpus", "mem_mb", "threads"]) -> int:
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


def needs_of(root: Path, targets: Sequence[str], overrides: Mapping[str, Any] | None = None) -> Needs:
    """What the targets need; UserError as :func:`lntune.plan.pending.pending`."""
    plan = Plan(Study.read(root, overrides))
    work = pending(plan, targets)
    execution = plan.scale.execution
    stages = {one.stage: execution.of(one.stage) for one in work.results}
    fetched = [one.name.rpartition("-")[0] for one in work.results if one.stage == "fetch"]
    return Needs(plan.study, work, stages, {name: plan.study.catalog_entry(name) for name in fetched})
