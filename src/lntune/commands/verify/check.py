"""``lntune verify``: whether tables and figures are what the stored results give, and the results what they are called.

    report = verify(Path("."), ["tables/table3.csv"])
    report.problems                 # each with its path, what is wrong, and the cells that rest on it
    print(report.text())

Files are hashed again, the chain of ids and contents is followed, and scores, selections, tables and figures are
made again from the stored answers. Training and asking models is not repeated.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lntune.commands.verify.basis import Basis
from lntune.commands.verify.findings import Counts, Findings, Report, differing_cells
from lntune.commands.verify.rescore import check_again
from lntune.commands.verify.stored import (
    check_fetched,
    check_files,
    check_manifests,
    hash_results,
    note_accepted,
    note_deleted,
    note_links,
    read_manifests,
)
from lntune.plan.node import is_done, manifest_path
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import Target, is_right, targets_of
from lntune.report.published import difference


def verify(
    root: Path,
    targets: Sequence[str] = (),
    jobs: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Report:
    """Check everything that the targets rest on.

    Args:
        root: the checkout.
        targets: as :func:`lntune.plan.targets.targets_of` takes them; without any, all that the config asks for.
        jobs: how many processes score, and how many files are hashed, at a time; all cores unless given.
        overrides: values over config.yaml's, as the run had them.

    Raises:
        UserError: a target means nothing under this config, or the config is wrong.
    """
    started = time.monotonic()
    jobs = jobs or len(os.sched_getaffinity(0))
    plan = Plan(Study.read(root, overrides))
    asked = targets_of(plan, targets)
    basis, findings = Basis(plan, asked), Findings()
    with (
        _terminations_raise(),
        tempfile.TemporaryDirectory(prefix="lntune-verify-") as folder,
        _workers(jobs, Path(folder)) as pool,
    ):
        _check_published(plan, root, asked, findings)
        manifests = read_manifests(basis, findings)
        check_manifests(basis, manifests, findings)
        held = hash_results(basis, jobs, findings)
        check_files(basis, manifests, held, findings)
        check_fetched(basis, held, plan.study.catalog_lock, findings)
        scores = check_again(basis, manifests, held, findings, pool, Path(folder))
    note_deleted(basis, findings)
    note_accepted(basis, manifests, findings)
    note_links(basis, manifests, findings)
    files = {id(file): file for stored in held.values() for file in stored.values()}
    total = sum(file.bytes for file in files.values())
    counts = Counts(len(basis.done), len(files), total, scores, round(time.monotonic() - started, 3))
    return findings.report(basis, counts)


def _check_published(plan: Plan, root: Path, targets: list[Target], findings: Findings) -> None:
    """Whether each target is made, and each published file that is asked for holds what its result holds."""
    for target in targets:
        file, manifest = target.file, manifest_path(plan.store, target.node)
        if not is_done(plan.store, target.node):
            path = file or manifest.parent
            findings.problem(path, f"is not made yet under this config; run `snakemake {file or manifest}`")
        elif file is not None and not is_right(plan, root / file):
            made = manifest.parent / file.name
            if not (root / file).is_file():
                findings.problem(file, f"is not there; run `snakemake {file}`", cells=())
            elif made.is_file():
                what = f"does not show {made.parent}: it has {difference(made, root / file)}; run `snakemake {file}`"
                cells = differing_cells(target.node.settings, made, root / file)
                findings.problem(file, what, [target.node], cells=cells)
            else:
                what = f"is not the page of {made.parent}; run `snakemake {file}`"
                findings.problem(file, what, [target.node], cells=())


@contextmanager
def _workers(number: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes whose temporary files lie in ``folder``; on any exception they are ended at once."""
    others = set(multiprocessing.active_children())
    # Not forked: this process has threads, and what they have locked would stay locked in a copy.
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _begin, (str(folder),))
    try:
        for _ in range(number):
            pool.submit(_wake)  # so that they have started by the time they are needed
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _begin(folder: str) -> None:
    tempfile.tempdir = folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _wake() -> None:
    """Load what most tasks need."""
    import numpy  # noqa: F401


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _terminations_raise() -> Iterator[None]:
    """Have SIGTERM raise SystemExit in the block, as Ctrl-C raises KeyboardInterrupt, so that all is tidied up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
