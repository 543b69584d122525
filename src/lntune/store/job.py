"""What a stage is handed when it runs.

A stage is a module with four names: ``Settings`` (what decides its result), ``Execution`` (what does
not), ``PACKAGES`` (the distributions whose version shapes its numbers) and ``run(job)``, which fills ``job.out`` and
returns its metrics. Its input folders come by role. It knows nothing of ids, manifests or the store.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from lntune.config import Frozen
from lntune.progress import Progress, track

S = TypeVar("S", bound=Frozen)
E = TypeVar("E", bound=Frozen)

Metrics = dict[str, int | float | str]

EARLIER = "earlier"
"""The role of a result that did the first part of a job's work, to go on from: it saves time and changes no byte."""

LEFT = "left"
"""A file in a job's scratch with which all of that outlives the job, for the one whose EARLIER its result is."""

KEPT = "kept"
"""The role of a folder that says whether the work is wanted: it is if this holds only an empty file of that name."""


class NoExecution(Frozen):
    """For stages that have nothing to be told about how to run."""


@dataclass(frozen=True)
class Job(Generic[S, E]):
    """One job."""

    label: str  # its readable name, for messages
    settings: S  # what decides the result
    execution: E  # what does not
    inputs: Mapping[str, Path | tuple[Path, ...]]  # role to the finished folder, or folders in order, that play it
    out: Path  # the empty folder to fill
    scratch: Path  # a folder that outlives a failed or killed attempt; at first what EARLIER's job has left

    def folder(self, role: str) -> Path:
        """The folder that plays ``role``."""
        found = self.inputs[role]
        assert isinstance(found, Path), f"{role} is played by several folders"
        return found

    def folders(self, role: str) -> tuple[Path, ...]:
        """The folders that play ``role``."""
        found = self.inputs[role]
        assert not isinstance(found, Path), f"{role} is played by one folder"
        return found

    def track(self, total: int, unit: str) -> AbstractContextManager[Progress]:
        """Progress of this job, shown under its label."""
        return track(total, self.label, unit)
