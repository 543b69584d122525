"""What a rule's shell line calls: runs one job spec, in a fork server if there is one, else in a process of its own.

    python -m lntune.jobs.submit [--torch] SPEC.json LOG

Everything goes to LOG. Progress and the one line of an error are repeated on standard error as they come, to be seen
where Snakemake runs; a traceback is in the log alone.
SIGTERM and SIGUSR1 are handed on to the job, which may save what it has done before it ends; its exit code is waited
for. This module imports little beyond Python's own library, to start quickly.
``--torch`` marks stages that need torch. The plain fork server looks first whether their result can be linked; if it
must be computed, it starts the one with torch, and they wait for that.
"""

import fcntl
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import BinaryIO

from lntune.environment import job_environment

VARIABLE = "LNTUNE_FORK_SERVER"
MUST_COMPUTE = 75
"""The exit code of ``lntune.jobs.run --link-only`` where there is nothing to link (EX_TEMPFAIL of sysexits.h)."""

FORWARDED = (signal.SIGTERM, signal.SIGUSR1)

_PATIENCE = 90.0


class _Forward:
    """Hands signals on to the job; before there is one, they end this process."""

    def __init__(self) -> None:
        self.job: Callable[[int], object] | None = None
        for number in FORWARDED:
            signal.signal(number, self._came)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.job is None:
            raise SystemExit(128 + number)
        with suppress(OSError):  # it has just ended
            self.job(number)


def _connected(kind: str) -> socket.socket | None:
    """A connection to the fork server of this kind, or None without one; SystemExit if Snakemake has been killed."""
    folder, snakemake = os.environ.get(VARIABLE, ""), os.getppid()
    deadline = time.monotonic() + _PATIENCE
    while os.path.isdir(folder):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.connect(os.path.join(folder, kind))
            return client
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)
        if os.getppid() != snakemake:  # nobody waits for this job any more
            raise SystemExit(1)
    return None


def _begin(log: BinaryIO) -> None:
    """Empty a log that nobody writes; what another run's job for the same result writes stays, and ours follows it.

    The lock ends with the last process that has this log open, which may outlive us.
    """
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError:
        pass  # a file system without locks
    log.truncate(0)


def _relay(pipe: int, log: BinaryIO) -> None:
    """Copy the job's output, as it comes, to the log and to standard error, until the job has closed its end."""
    while block := os.read(pipe, 1 << 16):
        log.write(block)
        log.flush()
        os.write(2, block)
    os.close(pipe)


def _run_forked(client: socket.socket, arguments: list[str], log: BinaryIO, forward: _Forward) -> int:
    """Hand the job over and wait for its exit code."""
    reader, writer = os.pipe()
    message = os.fsencode("\0".join([os.getcwd(), *arguments]))
    socket.send_fds(client, [message], [log.fileno(), writer])
    forward.job = lambda number: client.send(bytes([number]))
    os.close(writer)
    _relay(reader, log)
    answer = client.recv(4)
    forward.job = None
    return int(struct.unpack("i", answer)[0]) if len(answer) == 4 else 1


def _run_here(spec: str, log: BinaryIO, forward: _Forward) -> int:
    """Run the job in a process of its own."""
    import subprocess

    reader, writer = os.pipe()
    command = [sys.executable, "-m", "lntune.jobs.run", spec]
    process = subprocess.Popen(command, stdout=log, stderr=writer, env=job_environment())
    forward.job = process.send_signal
    os.close(writer)
    try:
        _relay(reader, log)
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _run(spec: str, torch: bool, log: BinaryIO) -> int:
    forward = _Forward()
    plain = _connected("plain")
    if plain is None:
        return _run_here(spec, log, forward)
    if not torch:
        return _run_forked(plain, [spec], log, forward)
    code = _run_forked(plain, [spec, "--link-only"], log, forward)
    if code != MUST_COMPUTE:
        return code
    client = _connected("torch")
    return _run_here(spec, log, forward) if client is None else _run_forked(client, [spec], log, forward)


def main(arguments: list[str]) -> int:
    """Run the job spec; return the job's exit code, never 0 for a job that was killed."""
    spec, log = arguments[-2:]
    os.makedirs(os.path.dirname(log) or ".", exist_ok=True)
    with open(log, "ab") as file:
        _begin(file)
        code = _run(spec, "--torch" in arguments, file)
        if code < 0:  # a job that a signal ended could not say so itself
            name = os.path.basename(spec).removesuffix(".json")
            line = f"error: {name}: ended by {signal.Signals(-code).name}\n".encode()
            file.write(line)
            os.write(2, line)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
