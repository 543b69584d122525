"""Planning at the paper's scale: all tables and figures under three seeds, on a cluster, with an empty store.

`snakemake -n` in full, with a line and a reason for each job, and with the totals alone; `lntune plan`. Byte-compiled
modules and what is kept in the user's cache folder are there, as from the second call on. Four minutes.
"""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from checkout import copy_sources
from races.commands import surroundings
from races.rounds import ROUNDS, Row, Say

VERSIONS = ("snakemake", "pydantic")

GIVEN = ("--profile", "slurm", "--config", "seeds=[0,1,2]")
EVERY = 0.1
"""Seconds between two looks at the memory."""

PLAIN_LIMIT = "Snakemake's start, 1.5 s, and 1 ms a job"
REASON = (
    "what is ours, the plan and its functions, is a tenth of it; the rest is Snakemake's own work for each job, which"
    " it does in one thread"
)


def rows(work: Path, say: Say) -> list[Row]:
    """Plan in a checkout in ``work``."""
    checkout = work / "checkout"
    copy_sources(checkout)
    planner = Planner(checkout, surroundings(work))
    full, memory = planner.rounds(("snakemake", "-n", *GIVEN), say)
    jobs = int(re.findall(r"^total +(\d+)$", planner.printed, re.MULTILINE)[0])
    short, _ = planner.rounds(("snakemake", "-n", *GIVEN, "--quiet", "rules", "reason"), say)
    plan, _ = planner.rounds(("lntune", "plan", *GIVEN), say)
    results = re.findall(r"([\d,]+) results to make", planner.printed)[0]

    def row(name: str, unit: str, figures: Sequence[float], target: float, limit: str = "") -> Row:
        return Row(
            work=name, rival="", unit=unit, rival_rounds=(), our_rounds=tuple(figures), target=target, bound="at most",
            limit=limit, reason=REASON,
        )  # fmt: skip

    return [
        row(f"`snakemake -n`, {jobs:,} jobs", "s", full, 15.0, PLAIN_LIMIT),
        row("the same, peak memory of its processes", "MB", memory, 500.0),
        row("`snakemake -n --quiet rules reason`, totals alone", "s", short, 15.0, PLAIN_LIMIT),
        row(f"`lntune plan`, {results} results", "s", plan, 5.0),
    ]


class Planner:
    """Runs commands in one checkout; ``printed`` is what the last one wrote."""

    def __init__(self, checkout: Path, environment: dict[str, str]) -> None:
        self._checkout, self._environment = checkout, environment
        self.printed = ""

    def rounds(self, module: Sequence[str], say: Say) -> tuple[list[float], list[float]]:
        """Seconds and megabytes of each round; the warm-up does not count."""
        seconds, memory = [], []
        for number in range(ROUNDS + 1):
            taken, peak = self.run(module)
            say(f"{' '.join(module)}: round {number or 'zero (warm-up)'}: {taken:.3g} s, {peak:.0f} MB")
            if number:
                seconds.append(taken)
                memory.append(peak)
        return seconds, memory

    def run(self, module: Sequence[str]) -> tuple[float, float]:
        """Seconds, and the most memory that the process and its children held together; RuntimeError if it fails."""
        command = [sys.executable, "-m", *module]
        started, peak = time.perf_counter(), 0

        def watch(process: psutil.Process) -> None:
            nonlocal peak
            while not done.wait(EVERY):
                with suppress(psutil.Error):  # one that has just ended
                    tree = [process, *process.children(recursive=True)]
                    peak = max(peak, sum(one.memory_info().rss for one in tree))

        done = threading.Event()
        with subprocess.Popen(
            command, cwd=self._checkout, env=self._environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            watcher = threading.Thread(target=watch, args=(psutil.Process(process.pid),))
            watcher.start()
            self.printed, _ = process.communicate()
            taken = time.perf_counter() - started
            done.set()
            watcher.join()
        if process.returncode:
            raise RuntimeError(f"{' '.join(module)}: exit code {process.returncode}: {self.printed[-2000:]}")
        return taken, peak / 1e6
