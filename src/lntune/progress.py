"""How far a long job is: a bar on a terminal, a plain line now and then in a log file.

    with track(len(batches), "finetune", "steps") as progress:
        for batch in batches:
            progress.advance(1, loss=step(batch))

It goes to standard error, so that standard output holds results alone.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from lntune.units import bytes_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """What :func:`track` gives to the loop."""

    def __init__(self, total: int, unit: str, done: int) -> None:
        self._total, self._unit, self._done, self._first = total, unit, done, done
        self._started = time.monotonic()
        self._info = ""

    def advance(self, n: int = 1, **info: object) -> None:
        """Count ``n`` more units as done and show the latest ``info``, such as ``loss=0.7``."""
        self._done += n
        shown = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in info.items()}
        self._info = ", ".join(f"{name} {value}" for name, value in shown.items()) or self._info
        self._show()

    def extend(self, n: int) -> None:
        """Count ``n`` more units as to be done, where it turns out on the way how many there are."""
        self._total += n

    def _show(self) -> None:
        raise NotImplementedError

    def _rate(self) -> float:
        seconds = time.monotonic() - self._started
        return (self._done - self._first) / seconds if seconds > 0 else 0.0


@contextmanager
def track(total: int, label: str, unit: str, *, done: int = 0, stream: TextIO | None = None) -> Iterator[Progress]:
    """Show the progress of a loop, on standard error unless a stream is given, until the block ends.

    ``unit`` is what is counted, in the plural ("steps", "questions"); "bytes" are shown as MB, GB and so on. What an
    earlier attempt has ``done`` of the total does not count towards the rate.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        with _columns(unit, stream) as drawn:
            yield _Bar(total, label, unit, done, drawn)
        return
    lines = _Lines(total, label, unit, done, stream)
    try:
        yield lines
    finally:
        lines.finish()


class _Lines(Progress):
    """Plain lines: done, total, rate and time left, at most one every ten seconds and one at the end."""

    def __init__(self, total: int, label: str, unit: str, done: int, stream: TextIO) -> None:
        super().__init__(total, unit, done)
        self._label, self._stream, self._written = label, stream, self._started

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._written >= SECONDS_BETWEEN_LINES and self._done < self._total:
            self._written = now
            rate = self._rate()
            left = f", {duration((self._total - self._done) / rate)} left" if rate else ""
            self._write(f"{rate_text(rate, self._unit)}{left}")

    def finish(self) -> None:
        stopped = "" if self._done >= self._total else "stopped, "
        spent = duration(time.monotonic() - self._started)
        self._write(f"{rate_text(self._rate(), self._unit)}, {stopped}{spent} in all")

    def _write(self, text: str) -> None:
        head = f"{self._label}: {count_text(self._done, self._total, self._unit)}"
        print(", ".join(part for part in (head, text, self._info) if part), file=self._stream, flush=True)


class _Bar(Progress):
    """A moving bar, drawn by rich."""

    def __init__(self, total: int, label: str, unit: str, done: int, drawn: "RichProgress") -> None:
        super().__init__(total, unit, done)
        self._drawn, self._task = drawn, drawn.add_task(label, total=total, completed=done, rate=unit, info="")

    def _show(self) -> None:
        rate = rate_text(self._rate(), self._unit)
        self._drawn.update(self._task, completed=self._done, total=self._total, rate=rate, info=self._info)


def _columns(unit: str, stream: TextIO) -> "RichProgress":
    # Loaded here, since no job on a cluster needs it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if unit == "bytes" else MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
        console=Console(file=stream),
    )


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


def duration(seconds: float) -> str:
    """Seconds as ``0:07``, ``12:05`` or ``3:04:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
