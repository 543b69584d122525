"""Sends the log of a training, metrics.jsonl, to trackers while it grows: a process beside the job.

    python -m lntune.jobs.track SPEC.json METRICS.jsonl

It ends once its standard input does and the log is read. Whatever happens to it, the training goes on, and no module of
a stage knows of it. An attempt that goes on from a checkpoint writes its log from the first step on, and is sent so.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
FOLDER = Path("tracking")
"""Where trackers keep what they are sent, in the folder of the run."""

_TICK = 2.0
_PATIENCE = 60.0

Log = Callable[[int, Mapping[str, float]], object]
"""Takes a step, from 1, and its numbers by name."""


def start(spec: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Begin to track the training of a job spec that writes its log into ``out``."""
    command = [sys.executable, "-m", __name__, str(spec), str(out / METRICS)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def finish(process: "subprocess.Popen[bytes]") -> None:
    """Let trackers take what is left of the log, for a minute at most."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        print(f"warning: tracking did not end within {_PATIENCE:g} s and was ended", file=sys.stderr, flush=True)


def follow(metrics: Path, is_over: Callable[[float], bool]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each step of a growing log with its numbers, until ``is_over``, asked after so many seconds, and all is read."""
    with ExitStack() as opened:
        file, rest, over = None, "", False
        while not over:
            over = is_over(_TICK if file else _TICK / 10)  # soon, since its folder gets another name in the end
            if file is None and metrics.exists():
                file = opened.enter_context(metrics.open(encoding="utf-8"))
            *lines, rest = (rest + (file.read() if file else "")).split("\n")
            for line in map(json.loads, lines):
                numbers = {name: float(value) for name, value in line.items() if isinstance(value, int | float)}
                yield int(numbers.pop("step")), numbers


@contextmanager
def _tensorboard(spec: Mapping[str, Any], name: str) -> Iterator[Log]:
    event, summary = (import_module(f"tensorboard.compat.proto.{kind}_pb2") for kind in ("event", "summary"))
    folder = FOLDER / "tensorboard" / name
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier attempt
    events = import_module("tensorboard.summary.writer.event_file_writer")
    writer = events.EventFileWriter(str(folder), flush_secs=5)

    def log(step: int, numbers: Mapping[str, float]) -> None:
        values = [summary.Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        writer.add_event(event.Event(wall_time=time.time(), step=step, summary=summary.Summary(value=values)))

    yield log
    writer.close()


@contextmanager
def _wandb(spec: Mapping[str, Any], name: str) -> Iterator[Log]:
    wandb, id = import_module("wandb"), f"{spec['stage']}-{spec['id']}"
    for earlier in (FOLDER / "wandb").glob(f"offline-run-*-{id}"):
        shutil.rmtree(earlier, ignore_errors=True)
    run = wandb.init(
        project=spec["tracking"]["project"], name=name, id=id, resume="allow", dir=str(FOLDER),
        mode="online" if spec["tracking"]["online"] else "offline", config=spec["identity"]["settings"],
        settings=wandb.Settings(silent=True, console="off"),
    )  # fmt: skip
    yield lambda step, numbers: run.log(dict(numbers), step=step)
    run.finish()


@contextmanager
def _trackio(spec: Mapping[str, Any], name: str) -> Iterator[Log]:
    os.environ["TRACKIO_DIR"] = str((FOLDER / "trackio").absolute())
    trackio = import_module("trackio")
    config = spec["identity"]["settings"]
    trackio.init(project=spec["tracking"]["project"], name=name, config=config, resume="never")
    yield lambda step, numbers: trackio.log(dict(numbers), step=step)
    trackio.finish()


_TRACKERS: dict[str, Callable[[Mapping[str, Any], str], AbstractContextManager[Log]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}


def main(spec_file: Path, metrics: Path) -> None:
    """Send every step to the trackers that the job spec names, until standard input ends; a fault is one warning."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # they are for the job; with it, this ends
        signal.signal(number, signal.SIG_IGN)
    spec = json.loads(spec_file.read_text(encoding="utf-8"))
    try:
        FOLDER.mkdir(exist_ok=True)
        with ExitStack() as opened:
            logs = list[Log]()
            for step, numbers in follow(metrics, lambda seconds: bool(select.select([sys.stdin], [], [], seconds)[0])):
                if not logs:  # what takes seconds to import, once there is something to send
                    makers = [_TRACKERS[name] for name in spec["tracking"]["to"]]
                    logs = [opened.enter_context(maker(spec, f"{spec['stage']}/{spec_file.stem}")) for maker in makers]
                for log in logs:
                    log(step, numbers)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"warning: tracking of {spec_file.stem}: {text}; the training goes on", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
