"""A training run that is asked to stop saves what it has done and ends with one line.

SIGTERM (scancel, preemption, a time limit) and SIGUSR1 (Slurm's ``--signal``, ahead of the time limit) ask a run to
stop at the next boundary of a step; another SIGTERM later ends it at once. Ranks are asked through a file, too, which
their launcher makes: so a signal that came while they were still starting is not lost.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lntune.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
STOP_FILE = "LNTUNE_STOP_FILE"
"""The variable that names the file which asks a rank to stop once it exists."""

SAME_REQUEST_SECONDS = 2.0
"""Slurm signals every process of a job, and parents hand signals on: two SIGTERMs within this time are one request."""


class Interrupted(UserError):  # noqa: N818  (nothing is wrong)
    """A run was stopped from outside; what it had done is saved."""

    def __init__(self, label: str, step: int, total: int) -> None:
        super().__init__(f"{label}: stopped at step {step} of {total}; the next attempt goes on from there")


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """During the block, signals ask to stop; the function given returns whether one has.

    Python handles signals in the main thread alone; in another, only the file can ask.
    """
    came: list[tuple[int, float]] = []

    def note(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        earlier = [at for other, at in came if other == signal.SIGTERM and now - at > SAME_REQUEST_SECONDS]
        if number == signal.SIGTERM and earlier:
            raise SystemExit(128 + number)
        came.append((number, now))

    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in SIGNALS} if in_main else {}
    file = os.environ.get(STOP_FILE)
    try:
        yield lambda: bool(came) or (file is not None and os.path.exists(file))
    finally:
        for number, old in before.items():
            signal.signal(number, old)
