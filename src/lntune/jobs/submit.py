"""What a rule's shell line calls: runs one job spec, in a fork server if there is one, else in a process of its own.

    python -m lntune.jobs.submit [--torch] SPEC.json LOG

Everything goes to LOG. Progress and the one line of an error are repeated on standard error as they come, to be seen
where Snakemake runs; a traceback is in the log alone.
SIGTERM and SIGUSR1 are handed on to the job, which may save what it has done before it ends; its exit code is waited
for. This module imports little beyond Python's own library, to start quickly.
``--torch`` marks stages that need torch. The plain fork server looks first whether their result can be linked; if it
must be computed, they ask the one with torch.
"""

import fcntl
import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import BinaryIO

from lntune.environment import job_environment
from lntune.errors import how_it_ended
from lntune.jobs.states import begin, failed, succeeded

VARIABLE = "LNTUNE_FORK_SERVER"
BARS = "LNTUNE_BARS"
"""The variable that is set where bars show how far jobs are, so that lines of that are for the log alone."""

_IN_BARS = re.compile(rb"^.*\(\d+%\), .* left(, .*)?\n", re.MULTILINE)
MUST_COMPUTE = 75
"""The exit code of ``lntune.jobs.run --link-only`` where there is nothing to link (EX_TEMPFAIL of sysexits.h)."""

FORWARDED = (signal.SIGTERM, signal.SIGUSR1)

_PATIENCE = 90.0
_KILLED_WITHIN = 0.5
_STARTER = os.getppid()


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


def address(kind: str) -> str:
    """The socket of the fork server of this kind; it lies in no folder, whose path may be too long for a socket."""
    return f"\0{os.environ[VARIABLE]}-{kind}"


def is_ours(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's: anybody on this machine can see such a socket's name."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.getuid())


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
        _show(block, log)
    os.close(pipe)


def _show(block: bytes, log: BinaryIO) -> None:
    log.write(block)
    log.flush()
    if BARS in os.environ:
        block = _IN_BARS.sub(b"", block)
    with suppress(OSError):  # whoever has shown it may be gone
        os.write(2, block)


def _run_forked(kind: str, arguments: list[str], log: BinaryIO, forward: _Forward) -> int | None:
    """Hand the job over and wait for its exit code; None if there is no fork server, or it ended before it took it.

    SystemExit if Snakemake has been killed meanwhile: nobody waits for this job any more.
    """
    taken = b""
    if VARIABLE not in os.environ:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        reader, writer = os.pipe()
        client.settimeout(_PATIENCE)
        try:
            client.connect(address(kind))
            if is_ours(client):
                message = os.fsencode("\0".join([os.getcwd(), *arguments]))
                socket.send_fds(client, [message], [log.fileno(), writer])
                taken = client.recv(4)
        except TimeoutError:
            _show(f"warning: the fork server ({kind}) took no job for {_PATIENCE:g} s; the job goes on\n".encode(), log)
        except OSError:
            pass
        os.close(writer)
        if not taken:
            os.close(reader)
            _end_with_starter()
            return None
        client.settimeout(None)
        (number,) = struct.unpack("i", taken)
        forward.job = partial(os.kill, number) if number > 0 else None  # a signal may have ended it before it began
        _relay(reader, log)
        answer = b"".join(iter(partial(client.recv, 4), b""))  # ends when the job's process is gone
        forward.job = None
    if len(answer) < 4 and number > 0:
        _show(b"error: the fork server is gone, and so is this job; run snakemake again\n", log)
        return 1
    return int(struct.unpack("i", answer[:4])[0]) if number > 0 else int(number)


def _end_with_starter() -> None:
    """SystemExit if Snakemake is gone; one that is killed closes its sockets a moment before it is."""
    deadline = time.monotonic() + _KILLED_WITHIN
    while time.monotonic() < deadline:
        if os.getppid() != _STARTER:
            raise SystemExit(1)
        time.sleep(0.02)


def _run_here(spec: str, log: BinaryIO, forward: _Forward) -> int:
    """Run the job in a process of its own, with the variables that its result is named after."""
    import json
    import subprocess

    reader, writer = os.pipe()
    command = [sys.executable, "-m", "lntune.jobs.run", spec]
    fixed: dict[str, str] = {}
    with suppress(OSError), open(spec, encoding="utf-8") as file:  # the job says what is wrong with it
        fixed = json.load(file)["identity"].get("environment", {})
    process = subprocess.Popen(command, stdout=log, stderr=writer, env=job_environment() | fixed)
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
    code = _run_forked("plain", [spec, *["--link-only"] * torch], log, forward)
    if torch and code in (None, MUST_COMPUTE):
        code = _run_forked("torch", [spec], log, forward)
    return _run_here(spec, log, forward) if code is None else code


def main(arguments: list[str]) -> int:
    """Run the job spec; return the job's exit code, never 0 for a job that was killed."""
    spec, log = arguments[-2:]
    os.makedirs(os.path.dirname(log) or ".", exist_ok=True)
    with open(log, "ab") as file:
        _begin(file)
        begin(spec)
        code = _run(spec, "--torch" in arguments, file)
        if code < 0:  # a job that a signal ended could not say so itself
            name = os.path.basename(spec).removesuffix(".json")
            _show(f"error: {name}: {how_it_ended(code)}\n".encode(), file)
    failed(spec, log) if code else succeeded(spec)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
