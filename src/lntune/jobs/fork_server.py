"""A fork server for local jobs: it has imported libraries once, and forks for every job.

A stage of the demo computes for seconds, and importing torch and transformers takes as long again. The Snakefile
starts the plain one before the first local job, and it ends with Snakemake: it runs the stages that need no torch, and
links what can be linked. The first job with torch that must be computed makes it start the one with torch. They
import libraries alone and none of the modules that a job runs on, so every job runs the code as it lies on the disk. On
a cluster :mod:`lntune.jobs.submit` runs the job in a process of its own instead: the results are the same.

    python -m lntune.jobs.fork_server plain|torch FOLDER PARENT_PID        the socket is FOLDER/plain or FOLDER/torch
"""

import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module

from lntune.jobs.submit import FORWARDED, MUST_COMPUTE

_PLAIN = ("pydantic", "blake3", "grimp", "yaml", "numpy", "PIL.Image")
_LIBRARIES = {
    "plain": _PLAIN,
    "torch": (
        *_PLAIN, "torch", "safetensors.torch", "tokenizers", "transformers",
        "transformers.models.llama.modeling_llama", "open_clip", "timm",
    ),
}  # fmt: skip

_TICK = 1.0


def _run_job(message: bytes, files: list[int]) -> None:
    """In the forked process: run one job with the client's output, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    code = 1
    try:
        os.dup2(files[0], 1)
        os.dup2(files[1], 2)
        folder, *arguments = os.fsdecode(message).split("\0")
        os.chdir(folder)
        from lntune.jobs.run import main

        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class Server:
    """One thread that accepts jobs, forks for each, and sends each client its exit code.

    A single thread, because a fork copies none of the others and leaves what they had locked locked.
    """

    def __init__(self, path: str, parent: int) -> None:
        self.path, self.parent = path, parent
        self.with_torch: subprocess.Popen[bytes] | None = None
        self.selector = selectors.DefaultSelector()
        self.jobs: dict[int, socket.socket] = {}
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def listen(self) -> None:
        """Put the socket where clients look for it, readable by this user alone."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        mask = os.umask(0o177)
        self.listener.bind(self.path + ".new")
        os.umask(mask)
        self.listener.listen(64)
        os.rename(self.path + ".new", self.path)

    def serve(self) -> None:
        """Until the parent process is gone."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.selector.register(reader, selectors.EVENT_READ, partial(os.read, reader, 1024))
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        while os.getppid() == self.parent:
            for key, _ in self.selector.select(_TICK):
                key.data()
            self._reap()
        for child in self.jobs:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        message, files, _, _ = socket.recv_fds(connection, 1 << 16, 2)
        if len(files) != 2:
            connection.close()
            return
        child = os.fork()
        if child == 0:
            _run_job(message, list(files))
        for file in files:
            os.close(file)
        self.jobs[child] = connection
        self.selector.register(connection, selectors.EVENT_READ, partial(self._read_client, child))

    def _read_client(self, child: int) -> None:
        """A client sends the numbers of signals for its job; one that closes early was killed: its job ends with it."""
        connection, numbers = self.jobs[child], []
        with suppress(OSError):
            numbers = [number for number in connection.recv(16) if number in FORWARDED]
        if not numbers:
            self.selector.unregister(connection)
        for number in numbers or [signal.SIGTERM]:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    def _reap(self) -> None:
        while self.jobs:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            connection = self.jobs.pop(child, None)
            if connection is None:
                continue
            with suppress(KeyError):
                self.selector.unregister(connection)
            code = os.waitstatus_to_exitcode(status)
            if code == MUST_COMPUTE and self.with_torch is None:  # it ends when this one does
                folder = os.path.dirname(self.path)
                self.with_torch = subprocess.Popen(
                    [sys.executable, "-m", "lntune.jobs.fork_server", "torch", folder, str(os.getpid())]
                )
            with suppress(OSError):
                connection.sendall(struct.pack("i", code))
            connection.close()


def main(kind: str, folder: str, parent: int) -> None:
    """Import the libraries, then serve on the socket until the parent process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for Snakemake, which ends its jobs itself
    try:
        for name in _LIBRARIES[kind]:
            import_module(name)
            if os.getppid() != parent:
                return
        server = Server(os.path.join(folder, kind), parent)
        server.listen()
        server.serve()
    finally:  # the parent is gone; if it was killed, its folder is still there
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
