"""Bars below Snakemake's lines: one for each job that runs, and one for the whole run; on a terminal alone.

The lowest rows of the terminal are kept out of what scrolls (DECSTBM), as apt does it, and a thread draws there. So
whatever Snakemake and jobs write stays as it is, none of them ever waits for a bar, and what becomes of this thread is
nobody's concern but its own.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median

from lntune.jobs.states import JobState, job_states
from lntune.jobs.submit import BARS
from lntune.progress import duration, progress_text
from lntune.store.manifest import MANIFEST

_TICK = 1.0
_MOST_JOBS = 8
_WIDTH = 20
_SAVE, _BACK = "\0337", "\0338"


def start_bars(store: Path, jobs: Mapping[str, Callable[[], float | None]], at_once: int) -> None:
    """Show the progress of a run that makes ``jobs`` until this process ends, if standard error is a terminal.

    ``jobs`` are results, ``stage/name``, each with what tells how many seconds it is expected to take, None if nobody
    knows; ``at_once`` of them run at the same time.
    """
    if jobs and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        os.environ[BARS] = "1"
        bars = Bars(store, jobs, at_once)
        threading.Thread(target=bars.run, name="bars", daemon=True).start()
        atexit.register(bars.end)


class Bars:
    """What is shown of one run."""

    def __init__(self, store: Path, jobs: Mapping[str, Callable[[], float | None]], at_once: int) -> None:
        self._store, self._jobs, self._at_once = store, jobs, max(1, at_once)
        self._began, self._open = time.monotonic(), set(jobs)
        self._since = time.time() - 5.0  # what was begun before was killed, and left its file; clocks may differ a bit
        self._running: dict[str, JobState] = {}
        self._took: dict[str, list[float]] = {}  # seconds of this run's jobs by stage
        self._expected: dict[str, float | None] = {}
        self._rows, self._size = 0, os.terminal_size((0, 0))
        self._lock, self._over = threading.Lock(), threading.Event()

    def run(self) -> None:
        """Draw every second until the end; a fault ends the bars alone."""
        with suppress(Exception):
            while not self._over.wait(_TICK):
                self.look()
                with self._lock:
                    if not self._over.is_set():
                        self._draw()
                if len(self._expected) < len(self._jobs):
                    self._expected = {name: expected() for name, expected in self._jobs.items()}
        self.end()

    def end(self) -> None:
        """Give the rows back."""
        self._over.set()
        with self._lock:
            if self._rows:
                self._write(f"{_SAVE}\033[r{_BACK}{_SAVE}\033[{self._size.lines - self._rows + 1};1H\033[J{_BACK}")
                self._rows = 0

    def look(self) -> None:
        """See what runs now, and what has been done since."""
        states = (one for one in job_states(self._store) if one.failed is None and one.started > self._since)
        before, now = self._running, {one.path: one for one in states if one.path in self._open}
        self._running = now
        for path in [*self._open] if int(time.monotonic()) % 10 == 0 else before.keys() - now.keys():
            if (self._store / path / MANIFEST).is_file():
                self._open.discard(path)
                if path in before:
                    self._took.setdefault(before[path].stage, []).append(time.time() - before[path].started)

    def lines(self, most: int, width: int) -> list[str]:
        """So many lines at most, of so many columns: running jobs, the oldest first, and the whole run."""
        running = sorted(self._running.values(), key=lambda one: one.started)
        shown = running if len(running) < most else running[: most - 2]
        lines = [_job_line(one) for one in shown]
        if len(shown) < len(running):
            lines.append(f"and {len(running) - len(shown)} more jobs")
        done, total = len(self._jobs) - len(self._open), len(self._jobs)
        left = f"{_bar(done / total)} {done}/{total} results, {duration(time.monotonic() - self._began)} so far"
        return [line[:width] for line in (*lines, left + self._left_text())]

    def _left_text(self) -> str:
        """What is left of the run: by what its jobs took so far, for other stages by what ``lntune plan`` expects."""
        if not self._expected:
            return ""
        seconds, longest, unknown, now = 0.0, 0.0, 0, time.time()
        for path in self._open:
            took = self._took.get(path.partition("/")[0])
            expected = median(took) if took else self._expected[path]
            job = self._running.get(path)
            if job is not None and job.left is not None:
                seconds, longest = seconds + job.left, max(longest, job.left)
            elif expected is None:
                unknown += 1
            else:
                seconds += max(0.0, expected - (now - job.started if job else 0.0))
        longest = max(longest, seconds / min(self._at_once, max(1, len(self._open))))
        text = f", about {duration(longest)} left"
        return f"{text} and {unknown} of unknown length" if unknown else text

    def _draw(self) -> None:
        """Write the lines into the lowest rows, all in one write, so that no other's comes between."""
        size = os.get_terminal_size(sys.stderr.fileno())
        rows = min(self._at_once, _MOST_JOBS, size.lines // 2 - 1) + 1
        if rows < 2:
            return
        text = ""
        if (rows, size) != (self._rows, self._size):
            text = _SAVE + "\033[r" + _BACK + "\n" * rows + f"\033[{rows}A"
            text += f"{_SAVE}\033[1;{size.lines - rows}r{_BACK}"
            self._rows, self._size = rows, size
        shown = self.lines(rows, size.columns - 1)
        shown = [""] * (rows - len(shown)) + shown
        drawn = "".join(f"\033[{size.lines - rows + 1 + place};1H\033[2K{line}" for place, line in enumerate(shown))
        self._write(text + _SAVE + drawn + _BACK)

    @staticmethod
    def _write(text: str) -> None:
        with suppress(OSError):
            os.write(sys.stderr.fileno(), text.encode())


def _job_line(job: JobState) -> str:
    name = f"{job.stage} {job.name.rpartition('-')[0]}"
    if (one := job.progress) is None:
        return f"{_bar(0)} {name}, for {duration(max(0.0, time.time() - job.started))}"
    share = one["done"] / one["total"] if one["total"] else 1.0
    return f"{_bar(share)} {name}: {progress_text(one, job.left)}"


def _bar(share: float) -> str:
    full = round(_WIDTH * min(1.0, share))
    return "━" * full + "┄" * (_WIDTH - full)
