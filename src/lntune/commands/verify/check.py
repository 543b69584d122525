"""``lntune verify``: whether tables and figures are what the stored results give, and the results what they are called.

    report = verify(Path("."), ["tables/table3.csv"])
    report.problems                 # each with its path, what is wrong, and the cells that rest on it
    print(report.text())

Files are hashed again, the chain of ids and contents is followed, and scores, selections, tables and figures are
made again from the stored answers. Training and asking models is repeated where that is asked for.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lntune.benchmarks.captions.formats import read_references
from lntune.benchmarks.captions.words import WORDS, all_captions, read_words, tokenize, tokenize_group
from lntune.benchmarks.registry import score_stages
from lntune.commands.verify.findings import Basis, Counts, Findings, differing_cells
from lntune.commands.verify.rerun import compare_files, rerun
from lntune.commands.verify.stored import Held, Manifests, check_stored, note_limits
from lntune.data.samples import read_answers
from lntune.environment import PORTABLE
from lntune.errors import UserError
from lntune.plan.node import Node, input_folders, is_done, manifest_path, result_folder
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS, stage_module
from lntune.plan.study import Study
from lntune.plan.targets import Target, is_right, targets_of
from lntune.progress import track
from lntune.report.published import difference, differing_values
from lntune.stages.select import CHOSEN
from lntune.store.identity import digest
from lntune.store.job import Job
from lntune.training.endings import passed_on
from lntune.units import counted

_MADE_AGAIN = ("tokenize-references", "halve", "select", *STAGES_OF_REPORT_ITEMS)
"""Besides scores."""

_TOKENIZED = ("score-captions", "tokenize-references")
"""The stages that have captions tokenized."""


def verify(
    root: Path, targets: Sequence[str] = (), jobs: int | None = None, overrides: Mapping[str, Any] | None = None,
    again: Sequence[str] = (), seed: int | None = None,
) -> Findings:  # fmt: skip
    """Check everything that the targets rest on; UserError as :func:`lntune.plan.targets.targets_of`, which takes them.

    ``jobs`` processes score, and as many threads hash files (as there are cores unless given); ``overrides`` are values
    over config.yaml's, as the run had them. ``again`` names results that are made again by their own jobs, too, or says
    how many others, drawn with ``seed``, else with one that is noted.
    """
    started = time.monotonic()
    jobs = jobs or len(os.sched_getaffinity(0))
    plan = Plan(Study.read(root, overrides))
    if plan.scale.numerics == "portable":  # workers score as jobs do
        os.environ.update(PORTABLE)
    asked = targets_of(plan, [*targets, *(one for one in again if not one.isdecimal())])
    findings = Findings(Basis(plan, asked))
    with (
        _terminations_raise(),
        tempfile.TemporaryDirectory(prefix="lntune-verify-") as folder,
        _workers(jobs, Path(folder)) as pool,
    ):
        _check_published(plan, asked, findings)
        manifests, held = check_stored(plan.study.catalog_lock, jobs, findings)
        findings.note_remedy()
        scores = _check_again(manifests, held, findings, pool, Path(folder))
        findings.note_remedy()
        if again:
            rerun(plan, manifests, held, findings, again, seed, leave_out=(*score_stages(), *_MADE_AGAIN))
    note_limits(manifests, findings)
    files = {id(file): file for stored in held.values() for file in stored.values()}
    total = sum(file.bytes for file in files.values())
    seconds = round(time.monotonic() - started, 3)
    findings.counts = Counts(len(findings.basis.done), len(files), total, scores, seconds)
    return findings


def _check_published(plan: Plan, targets: list[Target], findings: Findings) -> None:
    """Whether each target is made, and each published file that is asked for holds what its result holds."""
    for target in targets:
        file, manifest = target.file, manifest_path(plan.store, target.node)
        if not is_done(plan.store, target.node):
            path = file or manifest.parent
            findings.problem(path, f"is not made yet under this config; run `snakemake {file or manifest}`")
        elif file is not None and not is_right(plan, file):
            made = manifest.parent / file.name
            if not file.is_file():
                findings.problem(file, f"is not there; run `snakemake {file}`", cells=())
            elif not made.is_file():
                findings.problem(file, f"cannot be held against {made}, which is not there", [target.node], cells=())
            else:
                what = f"does not show {made.parent}: it has {difference(made, file)}; run `snakemake {file}`"
                cells = differing_cells(target.node.settings, made, file)
                findings.problem(file, what, [target.node], cells=cells)


# --- scores, selections, tables and figures made again ----------------------------------------------------------------

Made = tuple[Mapping[str, Any], str]
"""What a job gave: its metrics, and if there are none, why."""


@dataclass(frozen=True)
class Work:
    """A job to be done again, and the results that it is to give: several, where it was done under other names."""

    stage: str
    job: Job[Any, Any]
    results: list[Node]


def _make(stage: str, job: Job[Any, Any], options: Mapping[str, Any]) -> Made:
    """Do a job; ``options`` go to the stage's ``run``, and whatever that raises becomes one line."""
    job.out.mkdir()
    try:
        return passed_on(job) or stage_module(stage).run(job, **options), ""
    except UserError as error:
        return {}, str(error)
    except Exception as error:
        return {}, " ".join(f"{type(error).__name__}: {error}".split())


def _check_again(manifests: Manifests, held: Held, findings: Findings, pool: ProcessPoolExecutor, folder: Path) -> int:
    """Make all scores, selections, tables and figures again, in ``folder``; return how many scores that were."""
    works = _works_of(held, findings, folder)
    with track(sum(len(work.results) for work in works), "scoring", "results") as progress:
        futures = _submit(pool, works)
        try:
            for future in as_completed(futures):
                work = futures[future]
                _compare(manifests, held, findings, work, future.result())
                shutil.rmtree(work.job.out)
                progress.advance(len(work.results))
        except BrokenProcessPool:
            raise UserError("verify: a process that scores was killed; `--jobs 1` takes less memory") from None
    return sum(len(work.results) for work in works if work.stage in score_stages())


def _works_of(held: Held, findings: Findings, folder: Path) -> list[Work]:
    """What is to be made again, each distinct work once; what lacks an input that was deleted is noted."""
    works: dict[str, Work] = {}
    lacking = 0
    for node in findings.basis.done:
        if node.stage not in (*score_stages(), *_MADE_AGAIN):
            continue
        read = [role for role in node.inputs if (node.stage, role) != ("select", "candidates")]
        if any(parent not in held for role in read for parent in node.players(role)):
            lacking += 1
            continue
        key = _key(node, held)
        if key in works:
            works[key].results.append(node)
        else:
            out, inputs = folder / key[:16], input_folders(findings.basis.store, node)
            if node.stage == "select":
                inputs["candidates"] = _stand_ins(node, held, out.with_suffix(".candidates"))
            job = Job[Any, Any](node.label, node.settings, node.execution, inputs, out, out.with_suffix(".scratch"))
            works[key] = Work(node.stage, job, [node])
    if lacking:
        findings.notes.append(f"{counted(lacking, 'result')} not made again: what they are made from was deleted")
    return list(works.values())


def _key(node: Node, held: Held) -> str:
    """The hash of the work: stage, settings, and the bytes that lie in the folders of the inputs."""
    contents = {
        role: [{path: file.blake3 for path, file in held.get(one, {}).items()} for one in node.players(role)]
        for role in node.inputs
    }
    return digest([node.stage, node.settings.model_dump(mode="json"), contents])


def _stand_ins(node: Node, held: Held, folder: Path) -> tuple[Path, ...]:
    """Candidates for a selection that only puts files into place: in each file stands the hash of the real one."""
    start = f"{CHOSEN}/"
    names = [path.removeprefix(start) for path in held[node] if path.startswith(start)]
    folders = []
    for place, candidate in enumerate(node.players("candidates")):
        folders.append(folder / str(place))
        files = held.get(candidate, {})
        for file in {*names, *files}:
            (folders[-1] / file).parent.mkdir(parents=True, exist_ok=True)
            (folders[-1] / file).write_text(files[file].blake3 if file in files else "", encoding="utf-8")
    return tuple(folders)


def tokenized_before(known: Sequence[str], lines: list[str], captions: Sequence[str]) -> list[str]:
    """The lines if the captions are the known ones, whose lines they are; any other group is tokenized now.

    The whole group is compared, not captions, because the words of a caption depend on the captions next to it: after
    "No." at a line's end, for one, a number that begins the next line decides whether the point is kept.
    """
    return lines if list(captions) == list(known) else tokenize_group(captions)


def _submit(pool: ProcessPoolExecutor, works: Sequence[Work]) -> dict[Future[Made], Work]:
    """Start all works: captions last, the longest first, tokenized by one run of Java while the others are made."""
    futures = {pool.submit(_make, work.stage, work.job, {}): work for work in works if work.stage not in _TOKENIZED}
    groups = [(_captions(work), work) for work in works if work.stage in _TOKENIZED]
    distinct = list(dict.fromkeys(group for group, _ in groups if group))
    lines = dict(zip(distinct, tokenize(*distinct), strict=True)) if distinct else {}
    for group, work in sorted(groups, key=lambda item: -len(item[0])):
        options = {"tokenizer": partial(tokenized_before, group, lines[group])} if group else {}
        futures[pool.submit(_make, work.stage, work.job, options)] = work
    return futures


def _captions(work: Work) -> tuple[str, ...]:
    """The captions that a job will have tokenized; nothing where it is going to stop for a fault in its files."""
    try:
        if work.stage == "tokenize-references":
            return tuple(all_captions(read_references(work.job.folder("questions") / "references.json")))
        texts = {int(id): text for id, text in read_answers(work.job.folder("answers")).items()}
        return tuple(texts[int(image)] for image in read_words(work.job.folder("references") / WORDS))
    except Exception:
        return ()


def _compare(manifests: Manifests, held: Held, findings: Findings, work: Work, made: Made) -> None:
    """Compare what was made again with what is stored in each result that did this work."""
    metrics, trouble = made
    for node in work.results:
        if trouble:
            what = f"cannot be made again from its inputs: {trouble}"
            findings.problem(result_folder(findings.basis.store, node), what, [node])
            continue
        right = not compare_files(held[node], findings, node, work.job.out)
        changed = differing_values(dict(metrics), manifests[node].metrics) if node in manifests else ""
        if right and changed:
            what = f"does not hold the metrics that its inputs give: it has {changed}"
            findings.problem(manifest_path(findings.basis.store, node), what, [node])


# --- the processes that make them ------------------------------------------------------------------------------------


@contextmanager
def _workers(number: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes whose temporary files lie in ``folder``; on any exception they are ended at once."""
    others = set(multiprocessing.active_children())
    # Not forked: this process has threads, and what they have locked would stay locked in a copy.
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _begin, (str(folder),))
    try:
        for _ in range(number):
            pool.submit(int)  # so that they have started by the time they are needed
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
    finally:
        pool.shutdown()


def _begin(folder: str) -> None:
    import numpy  # noqa: F401 - most tasks need it

    tempfile.tempdir = folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _terminations_raise() -> Iterator[None]:
    """Have SIGTERM raise SystemExit in the block, as Ctrl-C raises KeyboardInterrupt, so that all is tidied up."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
