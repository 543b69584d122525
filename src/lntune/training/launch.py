"""Starts the ranks of one job on this node with torchrun, and ends with all of them or with one line about why not.

The launching process passes on that the job shall stop, waits while the ranks save, and reads their results and
failures from a folder of their own. Nobody outlives anybody: torchrun ends all ranks when one ends; a launcher that is
killed closes a pipe, at which torchrun's process ends, and a rank whose parent is gone ends, too.

    python -m lntune.training.launch RANKS MODULE FOLDER

is torchrun's process: ``torchrun --standalone --nproc-per-node=RANKS -m MODULE FOLDER`` with that pipe as standard
input. How ranks ended goes to FOLDER/ended.json.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lntune.errors import UserError
from lntune.files import write_whole
from lntune.training.interruption import SIGNALS, STOP_FILE, stop_requests

RANK_FOLDER = "LNTUNE_RANK_FOLDER"
"""Set on ranks: the folder through which they and the launcher talk."""

GRACE_SECONDS = 1800.0
"""How long ranks that were asked to stop may take to save; Slurm's KillWait is usually shorter, and rules."""

DOCUMENT, RESULT, STOP, ENDED = "job.json", "result.json", "stop", "ended.json"


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
        code = _run(module, folder, ranks, threads, ends)
        result = folder / RESULT
        if code == 0 and result.is_file():
            return json.loads(result.read_bytes())
        if time.monotonic() >= ends:
            raise RankCrash(f"{label}: the ranks did not end within {max(seconds, 0):.0f} s and were ended")
        raise _failure(folder, code, label)


def read_document(folder: Path) -> dict[str, Any]:
    """What the launcher handed to its ranks."""
    document: dict[str, Any] = json.loads((folder / DOCUMENT).read_bytes())
    return document


def rank_environment(ranks: int, threads: int, folder: Path) -> dict[str, str]:
    """The environment of torchrun and its ranks, without the places that Slurm gives to the ranks of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | {
        RANK_FOLDER: str(folder),
        STOP_FILE: str(folder / STOP),
        "OMP_NUM_THREADS": str(threads),
    }


def _run(module: str, folder: Path, ranks: int, threads: int, limit: float) -> int:
    """Start torchrun, hand on signals, and return its exit code; at the time ``limit`` (monotonic) end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lntune.training.launch", str(ranks), module, str(folder)],
        stdin=subprocess.PIPE,
        env=rank_environment(ranks, threads, folder),
        start_new_session=True,  # Ctrl-C is the launcher's to handle
        preexec_fn=_ignore_signals,
    )
    try:
        with stop_requests() as asked:
            while time.monotonic() < limit:
                try:
                    return process.wait(1.0)
                except subprocess.TimeoutExpired:
                    if asked() and not (folder / STOP).exists():
                        (folder / STOP).touch()
                        limit = min(limit, time.monotonic() + GRACE_SECONDS)
            return 1
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _ignore_signals() -> None:
    """Slurm sends its signals to every process: torchrun would end the ranks, which are saving."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _failure(folder: Path, code: int, label: str) -> Exception:
    """Why the ranks ended: what failed first, for the others fail in consequence."""
    path = folder / ENDED
    ended: dict[str, int] = json.loads(path.read_bytes()) if path.is_file() else {}
    failures = [json.loads(path.read_bytes()) for path in folder.glob("failed-*.json")]
    silent = [rank for rank, code in ended.items() if code < 0 and not (folder / f"failed-{rank}.json").exists()]
    if silent:
        name = signal.Signals(-ended[silent[0]]).name
        hint = "; the machine may be out of memory" if name == "SIGKILL" else ""
        return RankCrash(f"{label}: rank {silent[0]} was ended by {name}{hint}")
    if failures:
        first = min(failures, key=lambda one: float(one["time"]))
        if first["user"]:
            return UserError(first["text"])
        return RankCrash(f"{label}: rank {first['rank']}: {first['text']}")
    if (folder / STOP).exists():
        return RankCrash(f"{label}: the ranks did not stop within {GRACE_SECONDS:g} s and were ended")
    return RankCrash(f"{label}: the ranks ended with exit code {code}; the log may say why")


def run_as_rank(folder: Path, work: Callable[[], Any]) -> NoReturn:
    """On a rank: join the others, do the work, leave the first rank's result or the failure in ``folder``, and end."""
    number = int(os.environ["RANK"])
    if number > 0:
        os.dup2(1, 2)  # the first rank's messages are enough; the rest is for the log
    threading.Thread(target=_end_with_parent, args=(os.getppid(), folder, number), daemon=True).start()
    try:
        from lntune.training import ranks

        ranks.start()
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
    write_whole(folder / f"failed-{rank}.json", json.dumps(failure))
    _end(1)


def _end(code: int) -> NoReturn:
    """End without Python's own tidying, in which gloo's threads have been seen to abort a process that was done."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent(parent: int, folder: Path, rank: int) -> None:
    """End this rank when torchrun is gone, or another rank has failed and this one may wait for it in vain."""
    while os.getppid() == parent:
        if any(path.name != f"failed-{rank}.json" for path in folder.glob("failed-*.json")):
            time.sleep(2.0)  # it may be about to fail alike, as after a stop
            break
        time.sleep(0.2)
    os._exit(1)


def torchrun(ranks: int, module: str, folder: Path) -> int:
    """Run the ranks to their end."""
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    logging.disable(logging.CRITICAL)  # the launcher prints one line in place of torchrun's forty
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = [
        "--standalone",
        f"--nproc-per-node={ranks}",
        "--local-addr=127.0.0.1",
        "--signals-to-handle=SIGINT",  # the others are the launcher's: torchrun would end ranks that are saving
        "-m", module, str(folder),
    ]  # fmt: skip
    try:
        run.run(run.parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        (folder / ENDED).write_text(json.dumps(codes), encoding="utf-8")
        return 1
    return 0


def _end_with_launcher() -> None:
    """The launcher never writes: when reading ends, it is gone."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(torchrun(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
