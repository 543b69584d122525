"""A fork server for local jobs: it has imported what most need once, and forks for every job.

The Snakefile calls :func:`start` before the first local job, and the servers end with Snakemake; docs/decisions.md says
why there are two, what they import, and what happens when one dies. On a cluster :mod:`lntune.jobs.submit` runs the job
in a process of its own instead: the results are the same.

    python -m lntune.jobs.fork_server plain|torch PARENT_PID SOCKET        the last is a file descriptor
"""

import atexit
import gc
import os
import secrets
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from functools import partial
from importlib import import_module

from lntune.environment import job_environment
from lntune.errors import how_it_ended
from lntune.jobs.submit import VARIABLE, address, is_ours
from lntune.store.fingerprint import raw_digest

_PLAIN = (
    "pydantic", "blake3", "grimp", "yaml", "numpy", "PIL.Image",
    "lntune.jobs.run", "lntune.store.record", "lntune.training.endings", "lntune.training.gpus",
)  # fmt: skip
_IMPORTED = {
    "plain": _PLAIN,
    "torch": (
        *_PLAIN, "torch", "safetensors.torch", "tokenizers", "transformers",
        "transformers.models.llama.modeling_llama", "open_clip", "timm",
        "lntune.stages.predict", "lntune.stages.tune", "lntune.model.multimodal", "lntune.training.loop",
    ),
}  # fmt: skip
"""What most jobs need; one that finds other code of ours on the disk imports that."""

_TICK = 1.0


def start(portable: bool = False) -> None:
    """For the jobs of this process: start the fork servers, which end with it; one that dies before is one warning."""
    os.environ[VARIABLE] = f"lntune-{secrets.token_hex(16)}"
    for kind in _IMPORTED:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(address(kind))
        listener.listen(1024)
        given = kind, listener, job_environment(portable)
        threading.Thread(target=_look_after, args=given, name=f"{kind} server", daemon=True).start()


def _look_after(kind: str, listener: socket.socket, environment: dict[str, str]) -> None:
    """Start a server, the one with torch not before a job asks for it, and wait for its end."""
    if kind == "torch":
        select.select([listener], [], [])
    number, nothing, pipe = listener.fileno(), subprocess.DEVNULL, subprocess.PIPE
    command = [sys.executable, "-m", "lntune.jobs.fork_server", kind, str(os.getpid()), str(number)]
    with listener:
        server = subprocess.Popen(
            command, stdin=nothing, stdout=pipe, stderr=subprocess.STDOUT, pass_fds=[number], env=environment
        )
    atexit.register(server.wait)  # after what is registered last
    atexit.register(server.terminate)
    assert server.stdout is not None
    last = deque(server.stdout, maxlen=1)  # until it ends
    how = how_it_ended(server.wait(), b"".join(last).decode(errors="replace"))
    if threading.main_thread().is_alive():
        line = f"warning: the fork server ({kind}) {how}; the jobs go on, each in a process of its own"
        print(line, file=sys.stderr, flush=True)


def _run_job(message: bytes, files: list[int], client: socket.socket, code_digest: str) -> None:
    """In the forked process: run one job with the client's output, tell it this process's number and the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    code = 1
    try:
        os.dup2(files[0], 1)
        os.dup2(files[1], 2)
        client.sendall(struct.pack("i", os.getpid()))  # fails if the client is gone: then nobody wants this job
        folder, *arguments = os.fsdecode(message).split("\0")
        os.chdir(folder)
        if raw_digest("lntune") != code_digest:
            for name in [name for name in sys.modules if name.startswith("lntune.")]:
                del sys.modules[name]
        from lntune.jobs.run import main

        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            client.sendall(struct.pack("i", code))
        os._exit(code)


class Server:
    """One thread that accepts jobs, forks for each, and tells a client which signal has ended its job.

    A single thread, because a fork copies none of the others and leaves what they had locked locked.
    """

    def __init__(self, listener: socket.socket, parent: int, code_digest: str) -> None:
        self.listener, self.parent, self.code_digest = listener, parent, code_digest
        self.selector = selectors.DefaultSelector()
        self.jobs: dict[int, socket.socket] = {}

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
        client, _ = self.listener.accept()
        self.selector.register(client, selectors.EVENT_READ, partial(self._begin, client))

    def _begin(self, client: socket.socket) -> None:
        """Fork for the job that a client hands over; one that is gone, or finds no room, is left to itself."""
        self.selector.unregister(client)
        files: list[int] = []
        try:
            message, files, _, _ = socket.recv_fds(client, 1 << 16, 2)
            child = os.fork() if len(files) == 2 and is_ours(client) else None
        except OSError:
            child = None
        if child == 0:
            for key in self.selector.get_map().values():  # with a copy here, none would end when the server dies
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.close()
            _run_job(message, files, client, self.code_digest)
        for file in files:
            os.close(file)
        if child is None:
            client.close()
            return
        self.jobs[child] = client
        self.selector.register(client, selectors.EVENT_READ, partial(self._end_job, child))

    def _end_job(self, child: int) -> None:
        """A client says no more; one that closes early was killed: its job ends with it."""
        self.selector.unregister(self.jobs[child])
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)

    def _reap(self) -> None:
        while self.jobs:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            client = self.jobs.pop(child)
            with suppress(KeyError):
                self.selector.unregister(client)
            if (code := os.waitstatus_to_exitcode(status)) < 0:  # it could not say so itself
                with suppress(OSError):
                    client.sendall(struct.pack("i", code))
            client.close()


def main(kind: str, parent: int, listener: socket.socket) -> None:
    """Import what most jobs need, then serve on the socket until the parent process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for Snakemake, which ends its jobs itself
    gc.disable()  # a tenth of the time of these imports
    code_digest = raw_digest("lntune")  # before they are imported
    for name in _IMPORTED[kind]:
        import_module(name)
        if os.getppid() != parent:
            return
    gc.enable()
    gc.freeze()  # else each job's collector writes to all objects, and so copies their memory
    Server(listener, parent, code_digest).serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3])))
