"""Processes that run stages again into temporary folders; they end with the process that started them."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from lntune.config import Frozen
from lntune.errors import UserError
from lntune.plan.stages import stage_module
from lntune.store.job import Job


@dataclass(frozen=True)
class Task:
    """A stage to be run into the folder ``out``, which is not there yet; ``options`` go to its ``run``."""

    stage: str
    label: str
    settings: Frozen
    execution: Frozen
    inputs: Mapping[str, Path | tuple[Path, ...]]
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What a task gave: metrics, or why there are none."""

    metrics: Mapping[str, Any]
    trouble: str = ""


def make(task: Task) -> Made:
    """Run a task; whatever the stage raises is told in one line."""
    task.out.mkdir()
    job = Job(task.label, task.settings, task.execution, task.inputs, task.out, task.out.with_suffix(".scratch"))
    try:
        return Made(stage_module(task.stage).run(job, **task.options))
    except UserError as error:
        return Made({}, str(error))
    except Exception as error:
        return Made({}, " ".join(f"{type(error).__name__}: {error}".split()))


@contextmanager
def workers(number: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes whose temporary files lie in ``folder``; on any exception they are ended at once."""
    others = set(multiprocessing.active_children())
    # Not forked: this process has threads, and what they have locked would stay locked in a copy.
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _begin, (str(folder),))
    try:
        for _ in range(number):
            pool.submit(_wake)  # so that they have started by the time they are needed
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _begin(folder: str) -> None:
    tempfile.tempdir = folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _wake() -> None:
    """Load what most tasks need."""
    import numpy  # noqa: F401


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def terminations_raise() -> Iterator[None]:
    """Have SIGTERM raise SystemExit in the block, as Ctrl-C raises KeyboardInterrupt, so that all is tidied up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
