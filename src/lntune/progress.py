"""How far a long job is: a bar on a terminal, a plain line now and then in a log file.

    with track(len(batches), "finetune", "steps") as progress:
        for batch in batches:
            progress.advance(1, loss=step(batch))

It goes to standard error, so that standard output holds results alone.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from lntune.units import bytes_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """What :func:`track` gives to the loop."""

    def advance(self, n: int = 1, **info: object) -> None:
        """Count ``n`` more units as done and show the latest ``info``, such as ``loss=0.7``."""

    def extend(self, n: int) -> None:
        """Count ``n`` more units as to be done, where it turns out on the way how many there are."""


@contextmanager
def track(
    total: int,
    label: str,
    unit: str,
    *,
    done: int = 0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Show the progress of a loop until the block ends.

    Args:
        total: units in all.
        label: what is being done.
        unit: what is counted, in the plural ("steps", "questions"); "bytes" are shown as MB, GB and so on.
        done: units that an earlier attempt has done; they do not count towards the rate.
        stream: where to write; standard error unless given, so that standard output stays clean.
        clock: seconds from any origin.
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        with _bar(total, label, unit, done, stream) as bar:
            yield bar
        return
    lines = _Lines(total, label, unit, done, stream, clock)
    try:
        yield lines
    finally:
        lines.finish()


class _Lines:
    """Plain lines: done, total, rate and time left, at most one every ten seconds and one at the end."""

    def __init__(
        self, total: int, label: str, unit: str, done: int, stream: TextIO, clock: Callable[[], float]
    ) -> None:
        self._total, self._label, self._unit = total, label, unit
        self._done = self._first = done
        self._stream, self._clock = stream, clock
        self._started = self._written = clock()
        self._info = ""

    def advance(self, n: int = 1, **info: object) -> None:
        self._done += n
        self._info = _info_text(info) or self._info
        now = self._clock()
        if now - self._written >= SECONDS_BETWEEN_LINES and self._done < self._total:
            self._written = now
            rate = self._rate(now)
            left = f", {duration((self._total - self._done) / rate)} left" if rate else ""
            self._write(f"{rate_text(rate, self._unit)}{left}")

    def extend(self, n: int) -> None:
        self._total += n

    def finish(self) -> None:
        now = self._clock()
        stopped = "" if self._done >= self._total else "stopped, "
        spent = f"{stopped}{duration(now - self._started)} in all"
        self._write(f"{rate_text(self._rate(now), self._unit)}, {spent}")

    def _rate(self, now: float) -> float:
        seconds = now - self._started
        return (self._done - self._first) / seconds if seconds > 0 else 0.0

    def _write(self, text: str) -> None:
        head = f"{self._label}: {count_text(self._done, self._total, self._unit)}"
        print(", ".join(part for part in (head, text, self._info) if part), file=self._stream, flush=True)


class _Bar:
    """A moving bar, drawn by rich."""

    def __init__(self, bar: "RichProgress", task: "TaskID", total: int, unit: str, done: int) -> None:
        self._bar, self._task, self._total, self._unit = bar, task, total, unit
        self._done, self._first, self._started = done, done, time.monotonic()

    def advance(self, n: int = 1, **info: object) -> None:
        self._done += n
        seconds = time.monotonic() - self._started
        rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
        fields = {"rate": rate_text(rate, self._unit)}
        if info:
            fields["info"] = _info_text(info)
        self._bar.update(self._task, advance=n, **fields)  # type: ignore[arg-type]

    def extend(self, n: int) -> None:
        self._total += n
        self._bar.update(self._task, total=self._total)


@contextmanager
def _bar(total: int, label: str, unit: str, done: int, stream: TextIO) -> Iterator[_Bar]:
    # Loaded here, since no job on a cluster needs it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if unit == "bytes" else MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    with RichProgress(*columns, console=Console(file=stream)) as bar:
        yield _Bar(bar, bar.add_task(label, total=total, completed=done, rate=unit, info=""), total, unit, done)


def _info_text(info: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in info.items()
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
