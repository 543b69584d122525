"""A training run that is asked to stop saves what it has done and says so in one line.

SIGTERM (scancel, preemption, a time limit) and SIGUSR1 (Slurm's ``--signal``, ahead of the time limit) ask a run to
stop at the next boundary of a step; a second SIGTERM ends it at once. A run of several ranks may be asked through a
file, too, which its launcher makes: a signal that came while ranks were still starting is not lost.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lntune.errors import UserError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
STOP_FILE = "LNTUNE_STOP_FILE"
"""The variable that names the file which asks a rank to stop once it exists."""


class Interrupted(UserError):  # noqa: N818  (nothing is wrong)
    """A run was stopped from outside; what it had done is saved."""

    def __init__(self, label: str, step: int, total: int) -> None:
        super().__init__(f"{label}: stopped at step {step} of {total}; the next attempt goes on from there")


@contextmanager
def handling(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Handle SIGTERM and SIGUSR1 during the block, where Python allows it: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """During the block, signals ask to stop; the function given tells whether one has."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and number in seen:
            end_by(number)
        seen.append(number)

    file = os.environ.get(STOP_FILE)
    with handling(note):
        yield lambda: bool(seen) or (file is not None and os.path.exists(file))


def end_by(number: int) -> None:
    """End this process as if it had no handler for the signal."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
