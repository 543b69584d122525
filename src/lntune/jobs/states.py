"""What becomes of jobs and runs while they are at work, kept in the store for ``lntune status`` and the bars.

Beside a job spec ``<store>/.jobs/STAGE/NAME.json`` lie ``NAME.state``, where it runs or how it failed, and
``NAME.progress``, how far it is; both go once it has succeeded. A run has a file in ``<store>/.runs``, locked while it
is at work. None of it decides anything, so that whatever happens to these files no job and no run is the worse for it.
Each job's submit imports this module: it imports little.
"""

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

_RUNS = ".runs"
STATES = (".state", ".progress")
"""How the names of a job's files end, beside its spec."""


class JobState(NamedTuple):
    """A job that runs, or has failed with its last line ``failed``; ``progress`` is what lntune.progress keeps."""

    stage: str
    name: str
    host: str
    pid: int
    slurm: str | None
    started: float
    failed: str | None
    progress: Mapping[str, Any] | None

    @property
    def path(self) -> str:
        """Its result's folder below the store."""
        return f"{self.stage}/{self.name}"

    @property
    def left(self) -> float | None:
        """Seconds until what it counts is done; None where that is not known."""
        if not self.progress or not self.progress["rate"]:
            return None
        return max(0.0, float((self.progress["total"] - self.progress["done"]) / self.progress["rate"]))


class Run(NamedTuple):
    """A run of a workflow that is at work: where, whose, since when, and the results that it makes, done or not."""

    checkout: str
    user: str
    host: str
    pid: int
    started: float
    jobs: tuple[str, ...]


def begin(spec: str) -> None:
    """Note that this process has begun the job of a spec."""
    with suppress(OSError):
        os.unlink(_beside(spec, ".progress"))
    _note(spec, failed=None)


def failed(spec: str, log: str) -> None:
    """Note that the job of a spec has failed, with the last line of its log."""
    last = "ended without a word"
    with suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 8192))
        last = ([line for line in file.read().decode(errors="replace").splitlines() if line.strip()] or [last])[-1]
    _note(spec, failed=last.strip())


def succeeded(spec: str) -> None:
    """Take away what was noted of a job: its result is there."""
    for ending in STATES:
        with suppress(OSError):
            os.unlink(_beside(spec, ending))


def _beside(spec: str, ending: str) -> str:
    return spec.removesuffix(".json") + ending


def _note(spec: str, **more: str | None) -> None:
    path = _beside(spec, ".state")
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    about = {"host": os.uname().nodename, "pid": os.getpid(), "slurm": os.environ.get("SLURM_JOB_ID"), **more}
    with suppress(OSError):
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(about | {"started": time.time()}, file)
        os.replace(temporary, path)


def job_states(store: str | os.PathLike[str]) -> Iterator[JobState]:
    """All jobs that run or have failed, as far as their files can be read."""
    for path, name in _files(os.path.join(store, ".jobs"), inside=True):
        if name.endswith(".state") and not name.startswith("."):
            with suppress(OSError, ValueError, KeyError, TypeError):
                yield JobState(
                    stage=os.path.basename(os.path.dirname(path)),
                    name=name.removesuffix(".state"),
                    progress=_read(path.removesuffix(".state") + ".progress"),
                    **_read(path) or {},
                )


def job_inputs(store: str | os.PathLike[str], name: str) -> Iterator[str]:
    """What the result ``stage/name`` is made from, as its job spec says: each input's folder below the store."""
    spec = _read(os.path.join(store, ".jobs", f"{name}.json")) or {}
    with suppress(AttributeError, TypeError, ValueError):  # damaged
        for given in spec.get("inputs", {}).values():
            for folder in [given] if isinstance(given, str) else given:
                yield "/".join(os.path.relpath(folder, spec.get("store")).split(os.sep)[:2])  # of a part, the whole


def _files(folder: str, *, inside: bool = False) -> Iterator[tuple[str, str]]:
    """Path and name of what lies in a folder, or in its folders."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if inside:
                yield from _files(entry.path)
            else:
                yield entry.path, entry.name


def _read(path: str) -> dict[str, Any] | None:
    with suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        found = json.load(file)
        return found if isinstance(found, dict) else None
    return None


@contextmanager
def announced(store: str, jobs: Collection[str]) -> Iterator[None]:
    """Show that this process runs a workflow in this folder that makes ``jobs``, ``stage/name``, until the block ends.

    Files of runs of this host that were killed go.
    """
    from getpass import getuser
    from pathlib import Path

    from lntune.files import locked
    from lntune.store.leases import is_alive

    host, pid = os.uname().nodename, os.getpid()
    for run, path in _all_runs(store):
        if run.host == host and not is_alive(run.pid):
            with suppress(OSError):
                os.unlink(path)
    with ExitStack() as held:
        with suppress(OSError, KeyError):  # a store that may not be written, a user without a name
            file = Path(store, _RUNS, f"{host}.{pid}.json")
            document = {"checkout": os.getcwd(), "user": getuser(), "host": host, "pid": pid, "started": time.time()}
            held.enter_context(locked(file, lambda: False))
            file.write_text(json.dumps(document | {"jobs": sorted(jobs)}), encoding="utf-8")
        yield


def runs(store: str) -> list[Run]:
    """The runs that are at work on a store, as far as this host can see."""
    from pathlib import Path

    from lntune.files import is_locked
    from lntune.store.leases import is_alive

    here = os.uname().nodename
    return [run for run, path in _all_runs(store) if (is_alive(run.pid) if run.host == here else is_locked(Path(path)))]


def _all_runs(store: str) -> Iterator[tuple[Run, str]]:
    for path, name in _files(os.path.join(store, _RUNS)):
        if name.endswith(".json"):
            with suppress(TypeError):
                document = _read(path) or {}
                yield Run(**document | {"jobs": tuple(document.get("jobs", ()))}), path
