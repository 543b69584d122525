"""Whole runs of a checkout that are killed or meet each other, and what they leave; for tests and measurements."""

import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from checkout import Checkout

MARK = "LNTUNE_TESTED_RUN"
"""The environment variable by which a run's processes are known, also those whose parent is gone."""

PATIENCE = 900


class Run:
    """A plain ``snakemake -c2`` in a checkout, in the background; what it prints is in its file ``printed``.

    ``prefix`` is put before the command, ``variables`` into its environment.
    """

    def __init__(
        self, checkout: Checkout, prefix: Sequence[str] = (), variables: Mapping[str, str] | None = None
    ) -> None:
        self.token = secrets.token_hex(8)
        environment = os.environ | {"PYTHONPATH": str(checkout.root / "src"), MARK: self.token, **(variables or {})}
        environment.pop("LNTUNE_FORK_SERVER", None)
        self.runs = checkout.root / ".snakemake" / "runs"
        self.printed = checkout.root.parent / f"printed-{self.token}.txt"
        with self.printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "snakemake", "-c2"],
                cwd=checkout.root, env=environment, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait_for_jobs(self) -> None:
        """Wait until it has planned, and is about to start its first job, or has ended."""
        while self.process.poll() is None and not any(self.runs.glob(f"*.{self.process.pid}.*")):
            time.sleep(0.05)

    def processes(self) -> set[int]:
        """All processes of this run that live."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.token}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
        return found

    def kill(self, *, alone: bool) -> int:
        """SIGKILL Snakemake, ``alone`` or with all that it started; return the number of processes that were killed."""
        self.process.kill()
        killed = {self.process.pid}
        while not alone and (left := self.processes()):
            killed |= left
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        return len(killed)

    def end(self) -> None:
        """Wait for its end, which must be a good one."""
        code = self.process.wait(PATIENCE)
        assert code == 0, self.printed.read_text()[-6000:]


class Manifests:
    """Watches the manifests of a store: one that is there stays as it is, whoever works there."""

    def __init__(self, checkout: Checkout) -> None:
        self._results = checkout.root / "results"
        self._seen: dict[Path, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.broken: list[str] = []

    def __enter__(self) -> "Manifests":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self._look()

    def _look(self) -> None:
        for path in self._results.glob("[!.]*/[!.]*/manifest.json"):
            with suppress(FileNotFoundError):
                self._seen.setdefault(path, path.stat().st_ino)
        for path, inode in self._seen.items():
            try:
                if path.stat().st_ino != inode:
                    self.broken.append(f"{path}: made again")
            except FileNotFoundError:
                self.broken.append(f"{path}: gone")


def content(checkout: Checkout) -> dict[str, str]:
    """Every file that the study made, with its hash; manifests, which hold times, by their names alone."""
    found = {}
    for room in ("results", "tables", "figures"):
        for path in (checkout.root / room).rglob("*"):
            name = path.relative_to(checkout.root)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                found[str(name)] = "" if path.name == "manifest.json" else blake3(path.read_bytes()).hexdigest()
    return found


def finished(checkout: Checkout) -> int:
    """The number of results that are there."""
    return len(list((checkout.root / "results").glob("[!.]*/[!.]*/manifest.json")))


def kill_each(checkout: Checkout, kills: Sequence[tuple[float, bool]]) -> list[tuple[int, int]]:
    """Start run after run, each at once after the one before was killed; the last goes on to its end.

    Args:
        checkout: where.
        kills: for each run that is killed, how many seconds after it began its first job (negative: before that, after
            as many seconds), and whether Snakemake alone.

    Returns:
        For each kill the number of processes that it ended and of results that were there by then.
    """
    found = []
    with Manifests(checkout) as manifests:
        for after, alone in kills:
            run = Run(checkout)
            if after >= 0:
                run.wait_for_jobs()
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(abs(after))
            found.append((run.kill(alone=alone), finished(checkout)))
        checkout.snakemake("-c2")
    assert not manifests.broken, manifests.broken
    return found


def two_at_once(checkout: Checkout, offset: float) -> None:
    """Two runs, the second ``offset`` seconds after the first; both end well and make each result once."""
    with Manifests(checkout) as manifests:
        first = Run(checkout)
        time.sleep(offset)
        checkout.snakemake("-c2")
        first.end()
    assert not manifests.broken, manifests.broken


def moments(seed: int, number: int, longest: float) -> list[float]:
    """Random moments of a run, in seconds."""
    draw = random.Random(seed)
    return [draw.uniform(0, longest) for _ in range(number)]
