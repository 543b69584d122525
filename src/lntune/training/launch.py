"""Starts the ranks of one job on this node, and ends with all of them or with one line about why not.

The launching process passes on that the job shall stop, waits while the ranks save, and reads their results and
failures from a folder of their own. Nobody outlives anybody: when one rank ends with a failure the launcher ends the
others, and a rank whose launcher is gone ends, too.

It stands in place of torchrun, which gives ranks that ignore SIGTERM 30 seconds before it says anything, and then
cannot tell which of them ended first.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from lntune.errors import UserError, how_it_ended
from lntune.files import write_whole
from lntune.training.interruption import SIGNALS, STOP_FILE, stop_requests

RANK_FOLDER = "LNTUNE_RANK_FOLDER"
"""Set on ranks: the folder through which they and the launcher talk."""

GRACE_SECONDS = 1800.0
"""How long ranks that were asked to stop may take to save; Slurm's KillWait is usually shorter, and rules."""

_LAST_SECONDS = 1.5
"""How long the others may take to end by themselves once one has told of its failure: they may fail alike."""

DOCUMENT, RESULT, STOP, FAILED = "job.json", "result.json", "stop", "failed-{}.json"


class RankCrash(RuntimeError):  # noqa: N818
    """A rank ended by a defect or was killed; its traceback is in the log."""


def launch(
    module: str, document: dict[str, Any], ranks: int, threads: int, label: str, seconds: float = float("inf")
) -> Any:
    """Run ``python -m module FOLDER`` as this many ranks, ``document`` being in FOLDER; return the first's result.

    ``module`` calls :func:`run_as_rank`. Raises a rank's UserError, and RankCrash for all else, such as no end in time.
    """
    with tempfile.TemporaryDirectory(prefix="lntune-ranks-") as name:
        folder = Path(name)
        (folder / DOCUMENT).write_text(json.dumps(document), encoding="utf-8")
        ends = time.monotonic() + seconds
        ended, words = _run(module, folder, ranks, threads, ends)
        result = folder / RESULT
        if list(ended.values()) == [0] * ranks and result.is_file():
            return json.loads(result.read_bytes())
        if time.monotonic() >= ends:
            raise RankCrash(f"{label}: the ranks did not end within {max(seconds, 0):.0f} s and were ended")
        raise _failure(folder, ended, words, label)


def read_document(folder: Path) -> dict[str, Any]:
    """What the launcher handed to its ranks."""
    document: dict[str, Any] = json.loads((folder / DOCUMENT).read_bytes())
    return document


def rank_environment(rank: int, ranks: int, threads: int, folder: Path) -> dict[str, str]:
    """The environment of a rank, without the place that Slurm gives to a rank of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        RANK_FOLDER: str(folder),
        STOP_FILE: str(folder / STOP),
        "OMP_NUM_THREADS": str(threads),
    }  # fmt: skip


def _run(module: str, folder: Path, ranks: int, threads: int, limit: float) -> tuple[dict[int, int], dict[int, str]]:
    """Start the ranks and hand on signals; at the time ``limit`` (monotonic), or soon after one has failed, end them.

    Returns the exit codes of those that had ended before that, and of each rank the last line on its standard error.
    """
    started, readers = list[subprocess.Popen[bytes]](), list[threading.Thread]()
    ended, words = dict[int, int](), dict[int, str]()
    try:
        with stop_requests() as asked:
            for rank in range(ranks):
                process = subprocess.Popen(
                    [sys.executable, "-m", module, str(folder)],
                    stderr=subprocess.PIPE,
                    env=rank_environment(rank, ranks, threads, folder),
                    start_new_session=True,  # Ctrl-C is the launcher's to handle
                    preexec_fn=_ignore_signals,
                )
                started.append(process)
                readers.append(threading.Thread(target=_pass_on, args=(process.stderr, rank, words), daemon=True))
                readers[-1].start()
            while len(ended) < ranks and time.monotonic() < limit:
                time.sleep(0.1)
                for rank, process in enumerate(started):
                    if rank not in ended and process.poll() is not None:
                        ended[rank] = process.returncode
                        if process.returncode:
                            left = _LAST_SECONDS if (folder / FAILED.format(rank)).exists() else 0.0
                            limit = min(limit, time.monotonic() + left)
                if asked() and not (folder / STOP).exists():
                    (folder / STOP).touch()
                    limit = min(limit, time.monotonic() + GRACE_SECONDS)
        return ended, words
    finally:
        for process in started:
            process.kill()
            process.wait()
        for thread in readers:
            thread.join(1.0)  # what it left unread


def _pass_on(lines: IO[bytes], rank: int, words: dict[int, str]) -> None:
    """Show what the first rank writes to standard error; what the others do is for the log."""
    for line in lines:
        with suppress(OSError):
            os.write(2 if rank == 0 else 1, line)
        words[rank] = line.decode(errors="replace").strip() or words.get(rank, "")


def _ignore_signals() -> None:
    """Slurm sends its signals to every process; a rank is asked to stop through the folder."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _failure(folder: Path, ended: dict[int, int], words: dict[int, str], label: str) -> Exception:
    """Why the ranks ended: one that could not say so itself, or what failed first; the others fail in consequence."""
    for rank, code in ended.items():
        if code and not (folder / FAILED.format(rank)).exists():
            said = "" if code == -signal.SIGKILL else words.get(rank, "")
            return RankCrash(f"{label}: rank {rank} {how_it_ended(code, said)}")
    if failures := [json.loads(path.read_bytes()) for path in folder.glob(FAILED.format("*"))]:
        first = min(failures, key=lambda one: float(one["time"]))
        if first["user"]:
            return UserError(first["text"])
        return RankCrash(f"{label}: rank {first['rank']}: {first['text']}")
    if (folder / STOP).exists():
        return RankCrash(f"{label}: the ranks did not stop within {GRACE_SECONDS:g} s and were ended")
    return RankCrash(f"{label}: the ranks ended without a result; the log may say why")


def run_as_rank(folder: Path, work: Callable[[], Any]) -> NoReturn:
    """On a rank: join the others, do the work, leave the first rank's result or the failure in ``folder``, and end."""
    number = int(os.environ["RANK"])
    threading.Thread(target=_end_with_launcher, args=(os.getppid(),), daemon=True).start()
    try:
        from lntune.training import ranks

        ranks.start(folder)
        result = work()
        if number == 0:
            write_whole(folder / RESULT, json.dumps(result))
        ranks.barrier()
    except UserError as error:
        _failed(folder, number, str(error), user=True)
    except BaseException as error:
        traceback.print_exc(file=sys.stdout)
        _failed(folder, number, " ".join(f"{type(error).__name__}: {error}".split()), user=False)
    _end(0)


def _failed(folder: Path, rank: int, text: str, *, user: bool) -> NoReturn:
    """Write down a failure, and end without waiting for collective operations that never end."""
    failure = {"rank": rank, "time": time.time(), "user": user, "text": text}
    write_whole(folder / FAILED.format(rank), json.dumps(failure))
    _end(1)


def _end(code: int) -> NoReturn:
    """End without Python's own tidying, in which gloo's threads have been seen to abort a process that was done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_launcher(launcher: int) -> None:
    """End this rank when its launcher is gone."""
    while os.getppid() == launcher:
        time.sleep(0.2)
    os._exit(1)
