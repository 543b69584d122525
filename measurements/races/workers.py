"""A contestant in a process of its own, which has loaded what it needs and waits for its turn."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any


class Worker:
    """Runs ``python SCRIPT ARGUMENTS``, which calls :func:`serve`; each call is one round, and returns its answer.

    ``extra`` is a folder of packages that are no dependency of lntune (:func:`install`). While it waits for its turn
    the process sleeps.
    """

    def __init__(self, script: Path, *arguments: str, extra: Path | None = None, threads: int = 1) -> None:
        here = Path(__file__).resolve().parents[2]
        paths = [str(here / "src"), str(here / "measurements"), *([str(extra)] if extra else [])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, **request: object) -> dict[str, Any]:
        """Ask for one round; RuntimeError if the process has ended."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r}: ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def serve(answer: Callable[..., Mapping[str, object]]) -> None:
    """In the worker: answer each request until there are no more. What libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        out.write(json.dumps(answer(**json.loads(line))) + "\n")


def install(folder: Path, requirements: Sequence[str]) -> Path:
    """Install packages, without what they depend on, into a folder of their own; return it."""
    target = folder / "packages"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*command, *requirements], check=True)
    return target
