"""``lntune status``: what runs, waits and has failed on a store, of every run and job that is at work on it.

    print(status(Path("results")).text())

It reads what jobs and runs leave in the store (lntune.jobs.states), and asks SLURM where there is one.
"""

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.files import is_locked
from lntune.jobs.states import JobState, Run, job_inputs, job_states, runs
from lntune.progress import duration, progress_text
from lntune.store.leases import is_alive
from lntune.store.manifest import MANIFEST, Store
from lntune.store.record import output_of


@dataclass(frozen=True)
class InQueue:
    """A job of this user in SLURM's queue."""

    id: str
    state: str
    reason: str
    comment: str


@dataclass(frozen=True)
class Status:
    """What is at work on a store.

    ``failed`` has what failed and was not begun again since; ``lost`` what was begun, and whose process is gone. Of
    each run, by its place: how many results are ``done``, which are ``queued``, and which are ``blocked``, since they
    need one that failed. ``slurm`` is None without SLURM.
    """

    store: str
    runs: tuple[Run, ...]
    done: tuple[int, ...]
    queued: tuple[tuple[str, ...], ...]
    blocked: tuple[tuple[str, ...], ...]
    running: tuple[JobState, ...]
    failed: tuple[JobState, ...]
    lost: tuple[JobState, ...]
    slurm: tuple[InQueue, ...] | None

    def to_json(self) -> dict[str, Any]:
        """All of it, fit for JSON."""
        runs = zip(self.runs, self.done, self.queued, self.blocked, strict=True)
        jobs = {kind: [one._asdict() for one in getattr(self, kind)] for kind in ("running", "failed", "lost")}
        return {
            "store": self.store,
            "runs": [
                run._asdict() | {"done": done, "queued": queued, "blocked": blocked}
                for run, done, queued, blocked in runs
            ],
            **jobs,
            "slurm": None if self.slurm is None else [vars(one) for one in self.slurm],
        }

    def text(self) -> str:
        """A line for each run, each job that runs, has failed or is lost, and of what waits the number by stage."""
        lines = [] if self.runs else [f"{self.store}: no run is at work"]
        for run, done, queued, blocked in zip(self.runs, self.done, self.queued, self.blocked, strict=True):
            place = f"{run.checkout} of {run.user} on {run.host}, for {duration(time.time() - run.started)}"
            failed = len({one.path for one in self.failed} & {*run.jobs})
            counts = f"{done:,} of {len(run.jobs):,} results done, {len(queued):,} queued"
            others = ((failed, "failed"), (len(blocked), "blocked"))
            counts += "".join(f", {number:,} {what}" for number, what in others if number)
            lines.append(f"{place}: {counts}")
        lines += [f"running  {one.path}  {job_text(one)}{_place(one)}" for one in self.running]
        lines += [f"failed   {one.path}  {one.failed}" for one in self.failed]
        for one in self.lost:
            lines.append(f"lost     {one.path}  its process is gone; the next run goes on with it{_place(one)}")
        for word, of_runs, why in (("queued ", self.queued, ""), ("blocked", self.blocked, ": they need what failed")):
            if stages := Counter(name.partition("/")[0] for name in dict.fromkeys(n for one in of_runs for n in one)):
                waiting = ", ".join(f"{stage} {number:,}" for stage, number in stages.items())
                lines.append(f"{word}  {waiting}{why}")
        if reasons := Counter(one.reason for one in self.slurm or () if one.state == "PENDING"):
            waits = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
            lines.append(f"SLURM    {sum(reasons.values()):,} jobs wait: {waits}")
        return "\n".join(lines)


def job_text(job: JobState) -> str:
    """How far a job is: done, rate, time left and what it last told; at first for how long it has run."""
    since = f"for {duration(max(0.0, time.time() - job.started))}"
    if (one := job.progress) is None:
        return since
    return f"{progress_text(one, job.left)}{', ' if one['info'] else ''}{one['info']}, {since}"


def _place(job: JobState) -> str:
    return f" ({job.host}{f', SLURM job {job.slurm}' if job.slurm else ''})"


def status(store: Path) -> Status:
    """What is at work on a store, as far as this host can see."""
    slurm = None if shutil.which("squeue") is None else _in_queue()
    unfinished = [one for one in job_states(store) if not (store / one.path / MANIFEST).is_file()]
    at_work = {one.path for one in unfinished if one.failed is None and _is_at_work(store, one, slurm)}
    found, done = runs(str(store)), list[int]()
    queued, blocked = list[tuple[str, ...]](), list[tuple[str, ...]]()
    begun, failed = {one.path for one in unfinished}, {one.path for one in unfinished if one.failed is not None}
    for run in found:
        missing = [name for name in run.jobs if not (store / name / MANIFEST).is_file()]
        done.append(len(run.jobs) - len(missing))
        waiting = [name for name in missing if name not in begun]
        cut_off = _blocked_by(failed, store, waiting)
        queued.append(tuple(name for name in waiting if name not in cut_off))
        blocked.append(tuple(name for name in waiting if name in cut_off))
    return Status(
        store=str(store),
        runs=tuple(found),
        done=tuple(done),
        queued=tuple(queued),
        blocked=tuple(blocked),
        running=tuple(one for one in unfinished if one.path in at_work),
        failed=tuple(one for one in unfinished if one.path in failed),
        lost=tuple(one for one in unfinished if one.failed is None and one.path not in at_work),
        slurm=slurm,
    )


def _blocked_by(failed: set[str], store: Path, jobs: Sequence[str]) -> set[str]:
    """Those of some jobs that are made from one of ``failed``, or from what such a one would have made."""
    inputs = {name: {*job_inputs(store, name)} for name in jobs} if failed else {}
    found = set[str]()
    while more := {name for name, its in inputs.items() if name not in found and its & (failed | found)}:
        found |= more
    return found


def _is_at_work(store: Path, job: JobState, slurm: Sequence[InQueue] | None) -> bool:
    """Whether a job's process lives: seen here, by SLURM, or by the lock that it holds on its result."""
    if job.host == os.uname().nodename:
        return is_alive(job.pid)
    if job.slurm and slurm is not None:
        return any(one.id == job.slurm for one in slurm)
    scratch = Store(store).scratch(job.stage, job.name.rpartition("-")[2])
    return is_locked(scratch.with_name(f"{scratch.name}.lock"))


def _in_queue() -> tuple[InQueue, ...] | None:
    """This user's jobs in SLURM's queue; None if it does not answer."""
    listed = output_of("squeue", "--me", "--noheader", "--format=%i|%T|%r|%k")
    return None if listed is None else tuple(_jobs(listed))


def _jobs(listed: str) -> Iterator[InQueue]:
    for fields in re.findall(r"^([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|(.*)$", listed, re.M):
        yield InQueue(*map(str.strip, fields))
