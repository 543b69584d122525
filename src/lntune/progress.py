"""How far a long job is: a line now and then, and one at the end.

    with track(len(batches), "finetune", "steps") as progress:
        for batch in batches:
            progress.advance(1, loss=step(batch))

It goes to standard error, so that standard output holds results alone.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from lntune.files import write_whole
from lntune.units import bytes_text

PROGRESS = "LNTUNE_PROGRESS"
"""The variable that names the file in which a job's progress is kept as JSON, for others to look at meanwhile."""

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FILES = 1.0


class Progress:
    """What :func:`track` gives to the loop; it writes done, total, rate and time left, at most every ten seconds.

    With a ``file``, as a job has, also there, at most every second. Several threads may use it.
    """

    def __init__(self, total: int, label: str, unit: str, done: int, stream: TextIO, file: str | None) -> None:
        self._total, self._label, self._unit, self._stream, self._file = total, label, unit, stream, file
        self._done, self._first = done, done
        self._started = self._written = time.monotonic()
        self._kept = self._started - SECONDS_BETWEEN_FILES
        self._info, self._lock = "", threading.Lock()

    def advance(self, n: int = 1, **info: object) -> None:
        """Count ``n`` more units as done and show the latest ``info``, such as ``loss=0.7``."""
        shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in info.items()}
        with self._lock:
            self._done += n
            self._info = ", ".join(f"{name} {value}" for name, value in shown.items()) or self._info
            now = time.monotonic()
            if self._file and now - self._kept >= SECONDS_BETWEEN_FILES:
                self._kept = now
                self._keep(self._file)
            if now - self._written >= SECONDS_BETWEEN_LINES and self._done < self._total:
                self._written = now
                rate = self._rate()
                self._write(f", {duration((self._total - self._done) / rate)} left" if rate else "")

    def finish(self) -> None:
        """Write the last line, which says if the end was not reached."""
        stopped = "" if self._done >= self._total else "stopped, "
        self._write(f", {stopped}{duration(time.monotonic() - self._started)} in all")

    def _keep(self, file: str) -> None:
        """Keep how far it is where others look; a disk that refuses is no reason to stop."""
        document = {"done": self._done, "total": self._total, "unit": self._unit, "rate": self._rate()}
        with suppress(OSError):
            write_whole(Path(file), json.dumps(document | {"info": self._info, "time": time.time()}))

    def _rate(self) -> float:
        seconds = time.monotonic() - self._started
        return (self._done - self._first) / seconds if seconds > 0 else 0.0

    def _write(self, time_text: str) -> None:
        count = count_text(self._done, self._total, self._unit)
        info = f", {self._info}" if self._info else ""
        line = f"{self._label}: {count}, {rate_text(self._rate(), self._unit)}{time_text}{info}"
        print(line, file=self._stream, flush=True)


@contextmanager
def track(total: int, label: str, unit: str, *, done: int = 0, stream: TextIO | None = None) -> Iterator[Progress]:
    """Show the progress of a loop, on standard error unless a stream is given, until the block ends.

    ``unit`` is what is counted, in the plural ("steps", "questions"); "bytes" are shown as MB, GB and so on. What an
    earlier attempt has ``done`` of the total does not count towards the rate.
    """
    file = os.environ.get(PROGRESS) if stream is None else None
    progress = Progress(total, label, unit, done, stream or sys.stderr, file)
    try:
        yield progress
    finally:
        progress.finish()


def count_text(done: int, total: int, unit: str) -> str:
    """How much of how much: ``3/40 steps (7%)``, ``1.2 GB of 26 GB (4%)``; ``1.2 GB`` where the whole is unknown."""
    percent = f"({100 * done // total if total else 100}%)"
    if unit != "bytes":
        return f"{done}/{total} {unit} {percent}"
    return f"{bytes_text(done)} of {bytes_text(total)} {percent}" if done <= total else bytes_text(done)


def rate_text(rate: float, unit: str) -> str:
    """A rate in the largest unit of time that leaves a readable number: ``3.4 steps/s``, ``12 steps/min``."""
    if unit == "bytes":
        return f"{bytes_text(rate)}/s"
    if rate >= 1 or rate == 0:
        return f"{rate:.3g} {unit}/s"
    return f"{rate * 60:.3g} {unit}/min" if rate * 60 >= 1 else f"{rate * 3600:.3g} {unit}/h"


def progress_text(kept: Mapping[str, Any], left: float | None) -> str:
    """How far a job is by what its file holds: ``3/40 steps (7%), 2.1 steps/s, 0:18 left``."""
    count, rate = count_text(kept["done"], kept["total"], kept["unit"]), rate_text(kept["rate"], kept["unit"])
    return f"{count}, {rate}" + ("" if left is None else f", {duration(left)} left")


def duration(seconds: float) -> str:
    """Seconds as ``0:07``, ``12:05`` or ``3:04:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
