"""What a rule's shell line calls: runs one order, in a warm process if there is one, else in a process of its own.

    python -m lntune.job ORDER.json LOG [--heavy]

Everything goes to LOG. Progress and the one line of an error are repeated on standard error as they come, to be seen
where Snakemake runs; a traceback is in the log alone.
This module imports nothing beyond Python's own library.
``--heavy`` marks stages that need torch. The light warm process looks first whether their result can be linked; if it
must be computed, it starts the heavy one, and they wait for that.
"""

import os
import socket
import struct
import sys
import time
from typing import BinaryIO

VARIABLE = "LNTUNE_WARM"
MUST_COMPUTE = 75
"""The exit code of ``lntune.runner --link-only`` where there is nothing to link (EX_TEMPFAIL of sysexits.h)."""

_PATIENCE = 90.0


def _connected(kind: str) -> socket.socket | None:
    """A connection to the warm process of this kind, or None without one."""
    folder = os.environ.get(VARIABLE, "")
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
    return None


def _relay(pipe: int, log: BinaryIO) -> None:
    """Copy what the job says, as it comes, to the log and to standard error, until the job has closed its end."""
    while block := os.read(pipe, 1 << 16):
        log.write(block)
        log.flush()
        os.write(2, block)
    os.close(pipe)


def _run_warm(client: socket.socket, arguments: list[str], log: BinaryIO) -> int:
    """Hand the job over and wait for its exit code."""
    reader, writer = os.pipe()
    message = "\0".join([os.getcwd(), *arguments]).encode()
    socket.send_fds(client, [message], [log.fileno(), writer])
    os.close(writer)
    _relay(reader, log)
    answer = client.recv(4)
    return int(struct.unpack("i", answer)[0]) if len(answer) == 4 else 1


def _run_here(order: str, log: BinaryIO) -> int:
    """Run the job in a process of its own."""
    import subprocess

    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-m", "lntune.runner", order], stdout=log, stderr=writer)
    os.close(writer)
    try:
        _relay(reader, log)
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _run(order: str, heavy: bool, log: BinaryIO) -> int:
    light = _connected("light")
    if light is None:
        return _run_here(order, log)
    if not heavy:
        return _run_warm(light, [order], log)
    code = _run_warm(light, [order, "--link-only"], log)
    if code != MUST_COMPUTE:
        return code
    client = _connected("heavy")
    return _run_here(order, log) if client is None else _run_warm(client, [order], log)


def main(arguments: list[str]) -> int:
    """Run the order; return the job's exit code, never 0 for a job that was killed."""
    order, log = arguments[:2]
    os.makedirs(os.path.dirname(log) or ".", exist_ok=True)
    with open(log, "wb") as file:
        code = _run(order, "--heavy" in arguments, file)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
