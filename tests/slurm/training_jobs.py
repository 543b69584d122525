"""Holds a training job after one of its checkpoints, and sees whether the next attempt goes on from there."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path


class TrainingJob:
    """Watches one training from outside: its process and its checkpoints.

    From :meth:`watch` on, the process is stopped (SIGSTOP) as soon as it has written a checkpoint. It stays so until
    someone ends it; further attempts are watched and not touched.
    """

    def __init__(self, store: Path, stage: str, result: str) -> None:
        self.stage, self.result = stage, result
        self.scratch = store / ".scratch" / f"{stage}-{result.rpartition('-')[2]}"
        self.held = threading.Event()
        self.step = 0
        self.later: set[int] = set()
        self._before: set[tuple[int, int]] = set()
        self._pid = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def watch(self) -> "TrainingJob":
        """Begin."""
        self._thread.start()
        return self

    def wait_until_held(self, seconds: float) -> int:
        """Wait for the first checkpoint; return its step, at which the process now stands still."""
        assert self.held.wait(seconds), f"{self.stage} {self.result}: no checkpoint within {seconds:.0f} s"
        return self.step

    @property
    def is_running(self) -> bool:
        """Whether the process that was held is still there."""
        return os.path.exists(f"/proc/{self._pid}")

    def go_on(self) -> None:
        """Let the process that was held run again."""
        os.kill(self._pid, signal.SIGCONT)

    def end(self) -> None:
        """Watch no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            checkpoints, pause = self._checkpoints(), 0.002
            if not self._pid:
                self._pid, pause = _process_of(f"{self.result}.json"), 0.2  # it imports torch, for seconds
            elif self.held.is_set():
                # A checkpoint that is written again under the same name is another folder.
                self.later |= {step for step, _ in checkpoints - self._before}
                pause = 0.01
            elif checkpoints:
                os.kill(self._pid, signal.SIGSTOP)
                time.sleep(0.1)  # what was being written is written
                self._before = self._checkpoints()
                self.step = max(step for step, _ in self._before)
                self.held.set()
            time.sleep(pause)

    def _checkpoints(self) -> set[tuple[int, int]]:
        """Step and inode of each checkpoint's folder."""
        with suppress(FileNotFoundError), os.scandir(self.scratch) as entries:
            return {
                (int(entry.name.removeprefix("step-")), entry.inode())
                for entry in entries
                if entry.name.startswith("step-")
            }
        return set()


def _process_of(spec: str) -> int:
    """The process that carries out a job spec; 0 if there is none yet."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"lntune.jobs.run" in words and any(word.endswith(spec.encode()) for word in words):
                return int(entry.name)
    return 0
