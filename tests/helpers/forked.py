"""Processes with torch that are forked from one which has imported it, which saves nine seconds of CPU each.

Of what Snakemake and jobs start in tests, that are fork servers with torch and the ranks of DeepSpeed; where a test is
about the start of a process, it starts one as ever. Forked, a process differs in that the one which started it is not
its parent: it is told of the end through a socket, and the process asks the kernel whether the other still lives.

python forked.py SOCKET             (a file descriptor)
"""

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = (
    "torch", "safetensors.torch", "tokenizers", "transformers", "transformers.models.llama.modeling_llama",
    "open_clip", "timm", "numpy", "pydantic", "blake3", "grimp", "yaml", "PIL.Image",
    "torch._inductor.compile_fx", "networkx",  # by DeepSpeed, with its first engine
)  # fmt: skip
"""Of other people alone: a process runs the code of its own checkout."""
FORKED = (("lntune.jobs.fork_server",), ("lntune.stages.rank",), ("deepspeed_cells",))
"""What follows ``python -m`` where a process is forked."""
BY_PROCESSES = ("LD_", "LC_", "LANG", "PYTHON")
BY_LIBRARIES = ("MKL_", "ATEN_", "ONEDNN_", "OPENBLAS_", "NPY_", "OMP_")
"""The variables, but for PYTHONPATH, that a loader, the C library and Python, or what they import, read once.

CUDA's are read when a process first asks for a GPU, which the one that forks never does."""


def read_at_start(
    environment: Mapping[str, str], beginnings: tuple[str, ...] = BY_PROCESSES + BY_LIBRARIES
) -> dict[str, str]:
    """What is read once of an environment: if it differs, no process is forked."""
    return {name: value for name, value in environment.items() if name.startswith(beginnings) and name != "PYTHONPATH"}


class Popen(subprocess.Popen[Any]):
    """A process as :class:`subprocess.Popen` starts one, or forked if it is one of ``modules``."""

    address: str
    environment: dict[str, str]
    modules: tuple[tuple[str, ...], ...] = FORKED
    end: socket.socket | None = None

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any,
                       env: Any, startupinfo: Any, creationflags: Any, shell: Any, *rest: Any) -> None:  # fmt: skip
        streams, new_session = rest[:6], rest[11]
        command = [] if isinstance(args, str) else [os.fspath(one) for one in args]
        module = command[2:] if command[:2] == [sys.executable, "-m"] else []
        known = any(tuple(module[: len(one)]) == one for one in self.modules)
        if not known or read_at_start(env or dict(os.environ)) != self.environment:
            super()._execute_child(
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell, *rest
            )
            return
        given = {
            "module": module, "folder": os.fspath(cwd or os.getcwd()), "environment": env or dict(os.environ),
            "numbers": sorted(pass_fds), "ignored": [int(one) for one in ignored_by(preexec_fn)],
            "new_session": new_session, "group": os.getpgrp(), "parent": os.getpid(), "address": self.address,
        }  # fmt: skip
        files = [theirs if theirs != -1 else own for own, theirs in enumerate((streams[0], streams[3], streams[5]))]
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.end.connect(self.address)
        socket.send_fds(self.end, [json.dumps(given).encode() + b"\n"], [*files, *given["numbers"]])
        self.pid = int.from_bytes(self.end.recv(4, socket.MSG_WAITALL), "little")
        self._child_created = True
        self._close_pipe_fds(*streams)

    def _take_end(self, timeout: float | None) -> None:
        assert self.end is not None
        if select.select([self.end], [], [], timeout)[0]:
            told = self.end.recv(4, socket.MSG_PEEK | socket.MSG_WAITALL)  # another thread may wait, too
            self.returncode = int.from_bytes(told, "little", signed=True) if len(told) == 4 else -signal.SIGKILL

    def _internal_poll(self, *args: Any, **options: Any) -> int | None:
        if self.end is None:
            return super()._internal_poll(*args, **options)
        if self.returncode is None:
            self._take_end(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.end is None:
            return super()._wait(timeout)
        if self.returncode is None:
            self._take_end(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode


def ignored_by(prepare: Callable[[], None] | None) -> tuple[signal.Signals, ...]:
    """The signals that ``preexec_fn`` makes a process ignore."""
    if prepare is None:
        return ()
    from lntune.training.interruption import SIGNALS

    assert prepare.__name__ == "_ignore_signals"
    return tuple(SIGNALS)


def use(address: str, environment: dict[str, str]) -> None:
    """Fork what this process starts, by a server at this address that was started with that environment."""
    Popen.address, Popen.environment = address, environment
    subprocess.Popen = Popen


@contextmanager
def forked_processes(*modules: str) -> Iterator[None]:
    """Fork what this process starts, and these modules besides; meanwhile it has a job's environment."""
    import pytest

    from lntune.environment import job_environment

    with pytest.MonkeyPatch.context() as patch:
        environment = job_environment()
        for name in read_at_start(dict(os.environ)):
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(subprocess, "Popen", subprocess.Popen)
        patch.setattr(Popen, "modules", (*FORKED, *((module,) for module in modules)))
        use(*server())
        yield


@cache
def server() -> tuple[str, dict[str, str]]:
    """Start a server, which ends with this process and imports nothing before it is asked; what :func:`use` takes."""
    from lntune.environment import job_environment  # not above: what is forked has its own

    environment = job_environment()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # an abstract name that the kernel chooses
    listener.listen(100)
    number = listener.fileno()
    subprocess.Popen([sys.executable, __file__, str(number)], pass_fds=[number], env=environment)
    return "\0" + listener.getsockname()[1:].decode(), read_at_start(environment)


def serve(listener: socket.socket) -> None:
    """Fork for each that asks, until the process that started this is gone."""
    parent = os.getppid()
    ends: dict[int, socket.socket] = {}
    while os.getppid() == parent:
        if select.select([listener], [], [], 0.02 if ends else 1.0)[0]:
            import_all()
            client, _ = listener.accept()
            child = os.fork()
            if child == 0:
                listener.close()
                for end in ends.values():
                    end.close()
                be(client)
            client.sendall(child.to_bytes(4, "little"))
            ends[child] = client
        while ends and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            client = ends.pop(ended[0])
            with suppress(OSError):  # who started it is gone
                client.sendall(os.waitstatus_to_exitcode(ended[1]).to_bytes(4, "little", signed=True))
            client.close()


def import_all() -> None:
    """What is forked shall have imported."""
    if "torch" not in sys.modules:
        gc.disable()
        for name in IMPORTED:
            import_module(name)
        gc.freeze()
        gc.enable()


def be(client: socket.socket) -> NoReturn:
    """In the forked process: be the Python that was asked for."""
    code = 1
    try:
        text, files = b"", list[int]()
        while not text.endswith(b"\n"):
            more, found, _, _ = socket.recv_fds(client, 1 << 16, 20)
            assert more, "who asked is gone"
            text, files = text + more, files + found
        client.close()
        given = json.loads(text)
        environment = given["environment"]
        high = [fcntl.fcntl(file, fcntl.F_DUPFD, 500) for file in files]
        for file in files:
            os.close(file)
        for copy, number in zip(high, (0, 1, 2, *given["numbers"]), strict=True):
            os.dup2(copy, number)
            os.close(copy)
        if given["new_session"]:
            os.setsid()
        else:
            with suppress(OSError):  # it is of another session
                os.setpgid(0, given["group"])
        for one in given["ignored"]:
            signal.signal(one, signal.SIG_IGN)
        starter = os.pidfd_open(given["parent"])
        os.getppid = lambda: 1 if select.select([starter], [], [], 0)[0] else given["parent"]
        others = [path for path in sys.path if path not in os.environ["PYTHONPATH"].split(os.pathsep)]
        own = environment["PYTHONPATH"].split(os.pathsep)
        os.chdir(given["folder"])
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = own + others
        sys.argv = given["module"]
        for path in own:  # as Python does at its start
            if Path(path, "sitecustomize.py").exists():
                runpy.run_path(f"{path}/sitecustomize.py")
        use(given["address"], read_at_start(environment))
        runpy.run_module(given["module"][0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
