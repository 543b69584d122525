"""Scores, selections, tables and figures made again from what is stored, and compared byte by byte.

The stages' own code makes them. Scores come from answers, questions and the references' words, which are made again
from the questions; selections and what shows scores come from scores. Training and asking models is not repeated: for
that, delete the results and run Snakemake.
"""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lntune.benchmarks.captions.formats import read_references
from lntune.benchmarks.captions.words import WORDS, all_captions, read_words, tokenize, tokenize_group
from lntune.commands.verify.basis import Basis
from lntune.commands.verify.findings import Findings, differing_cells
from lntune.commands.verify.stored import MISSING, SURPLUS, File, Held
from lntune.config import Frozen
from lntune.data.samples import read_answers
from lntune.errors import UserError
from lntune.plan.node import Node, input_folders, manifest_path
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS, stage_module
from lntune.progress import track
from lntune.report.published import difference, differing_values
from lntune.stages.select import CHOSEN
from lntune.store.identity import digest, hash_tree
from lntune.store.job import Job
from lntune.store.manifest import Manifest
from lntune.units import counted

_MADE_AGAIN = ("tokenize-references", "select", *STAGES_OF_REPORT_ITEMS)
"""Besides scores."""


@dataclass(frozen=True)
class Task:
    """A stage to be run into the folder ``out``, which is not there yet; ``options`` go to its ``run``."""

    stage: str
    label: str
    settings: Frozen
    execution: Frozen
    inputs: Mapping[str, Path | tuple[Path, ...]]
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What a task gave: metrics, or why there are none."""

    metrics: Mapping[str, Any]
    trouble: str = ""


def make(task: Task) -> Made:
    """Run a task; whatever the stage raises becomes one line."""
    task.out.mkdir()
    job = Job(task.label, task.settings, task.execution, task.inputs, task.out, task.out.with_suffix(".scratch"))
    try:
        return Made(stage_module(task.stage).run(job, **task.options))
    except UserError as error:
        return Made({}, str(error))
    except Exception as error:
        return Made({}, " ".join(f"{type(error).__name__}: {error}".split()))


@dataclass(frozen=True)
class Work:
    """A task and the results that it is to give: several, where the same work was done under other names."""

    task: Task
    results: list[Node]


def is_score(node: Node) -> bool:
    """Whether a result is a score: those are made from answers, and from nothing that a model is needed for."""
    return "answers" in node.inputs


def check_again(
    basis: Basis,
    manifests: Mapping[Node, Manifest],
    held: Held,
    findings: Findings,
    pool: ProcessPoolExecutor,
    folder: Path,
) -> int:
    """Make all scores, selections, tables and figures again, in ``folder``; return how many scores that were."""
    works = works_of(basis, held, findings, folder)
    with track(sum(len(work.results) for work in works), "scoring", "results") as progress:
        futures = _submit(pool, works)
        try:
            for future in as_completed(futures):
                work = futures[future]
                _compare(basis, manifests, held, findings, work, future.result())
                shutil.rmtree(work.task.out)
                progress.advance(len(work.results))
        except BrokenProcessPool:
            raise UserError("verify: a process that scores was killed; `--jobs 1` takes less memory") from None
    return sum(is_score(node) for work in works for node in work.results)


# --- what to make ------------------------------------------------------------------------------------------------


def works_of(basis: Basis, held: Held, findings: Findings, folder: Path) -> list[Work]:
    """What is to be made again, each distinct work once; what lacks an input that was deleted is noted."""
    works: dict[str, Work] = {}
    lacking = 0
    for node in basis.done:
        if not (is_score(node) or node.stage in _MADE_AGAIN):
            continue
        inputs = dict(node.inputs)
        if node.stage == "select":
            del inputs["candidates"]
        if any(parent not in held for parent in replace(node, inputs=inputs).parents()):
            lacking += 1
            continue
        key = _key(node, held)
        if key in works:
            works[key].results.append(node)
        else:
            works[key] = Work(_task(basis, node, held, folder / key[:16]), [node])
    if lacking:
        findings.notes.append(f"{counted(lacking, 'result')} not made again: what they are made from was deleted")
    return list(works.values())


def _key(node: Node, held: Held) -> str:
    """The hash of the work: stage, settings, and the bytes that lie in the folders of the inputs."""
    contents = {
        role: [
            {path: file.blake3 for path, file in held.get(one, {}).items()}
            for one in replace(node, inputs={role: given}).parents()
        ]
        for role, given in node.inputs.items()
    }
    return digest([node.stage, node.settings.model_dump(mode="json"), contents])


def _task(basis: Basis, node: Node, held: Held, out: Path) -> Task:
    inputs = input_folders(basis.store, node)
    if node.stage == "select":
        inputs["candidates"] = _stand_ins(node, held, out.with_suffix(".candidates"))
    return Task(node.stage, node.label, node.settings, node.execution, inputs, out)


def _stand_ins(node: Node, held: Held, folder: Path) -> tuple[Path, ...]:
    """Candidates for a selection that only puts files into place: in each file stands the hash of the real one."""
    candidates = node.inputs["candidates"]
    assert isinstance(candidates, tuple)
    start = f"{CHOSEN}/"
    names = [path.removeprefix(start) for path in held[node] if path.startswith(start)]
    folders = []
    for place, candidate in enumerate(candidates):
        folders.append(folder / str(place))
        files = held.get(candidate, {})
        for file in {*names, *files}:
            (folders[-1] / file).parent.mkdir(parents=True, exist_ok=True)
            (folders[-1] / file).write_text(files[file].blake3 if file in files else "")
    return tuple(folders)


# --- making it ---------------------------------------------------------------------------------------------------


class TokenizedBefore:
    """A group of captions that was tokenized before; any other group is tokenized when it comes.

    The whole group is remembered, not captions, because the words of a caption depend on the captions next to it: after
    "No." at a line's end, for one, a number that begins the next line decides whether the point is kept.
    """

    def __init__(self, captions: Sequence[str], lines: list[str]) -> None:
        self._captions, self._lines = list(captions), lines

    def __call__(self, captions: Sequence[str]) -> list[str]:
        """The lines, as :func:`lntune.benchmarks.captions.words.tokenize_group` gives them."""
        return self._lines if list(captions) == self._captions else tokenize_group(captions)


def _submit(pool: ProcessPoolExecutor, works: Sequence[Work]) -> dict[Future[Made], Work]:
    """Start all works: captions last, the longest first, tokenized by one run of Java while the others are made."""
    futures = {pool.submit(make, work.task): work for work in works if work.task.stage not in _TOKENIZED}
    groups = {place: _captions(work.task) for place, work in enumerate(works) if work.task.stage in _TOKENIZED}
    distinct = list(dict.fromkeys(group for group in groups.values() if group))
    lines = dict(zip(distinct, tokenize(*distinct), strict=True)) if distinct else {}
    for place, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        task = works[place].task
        if group:
            task = replace(task, options={"tokenizer": TokenizedBefore(group, lines[group])})
        futures[pool.submit(make, task)] = works[place]
    return futures


def _answers(task: Task) -> tuple[str, ...]:
    """The captions of a model that a task will have tokenized, in the order of the references."""
    answers, references = task.inputs["answers"], task.inputs["references"]
    assert isinstance(answers, Path) and isinstance(references, Path)
    texts = {int(id): text for id, text in read_answers(answers).items()}
    return tuple(texts[int(image)] for image in read_words(references / WORDS))


def _references(task: Task) -> tuple[str, ...]:
    """The references that a task will have tokenized."""
    questions = task.inputs["questions"]
    assert isinstance(questions, Path)
    return tuple(all_captions(read_references(questions / "references.json")))


_TOKENIZED = {"score-captions": _answers, "tokenize-references": _references}
"""The stages that have captions tokenized, and which."""


def _captions(task: Task) -> tuple[str, ...]:
    """The captions that a task will have tokenized; nothing where it is going to stop for a fault in its files."""
    try:
        return _TOKENIZED[task.stage](task)
    except Exception:
        return ()


# --- comparing ---------------------------------------------------------------------------------------------------


def _compare(
    basis: Basis, manifests: Mapping[Node, Manifest], held: Held, findings: Findings, work: Work, made: Made
) -> None:
    """Compare what was made again with what is stored in each result that did this work."""
    for node in work.results:
        if made.trouble:
            what = f"cannot be made again from its inputs: {made.trouble}"
            findings.problem(basis.folder(node), what, [node])
            continue
        right = _compare_files(basis, held[node], findings, node, work.task.out)
        changed = differing_values(dict(made.metrics), manifests[node].metrics) if node in manifests else ""
        if right and changed:
            what = f"does not hold the metrics that its inputs give: it has {changed}"
            findings.problem(manifest_path(basis.store, node), what, [node])


def _compare_files(basis: Basis, stored: Mapping[str, File], findings: Findings, node: Node, out: Path) -> bool:
    """Compare the files in ``out`` with those that a result holds; return whether they are the same."""
    folder, off = basis.folder(node), dict[str, str]()
    made = {path: file.blake3 for path, file in hash_tree(out).items()}
    for path in made.keys() | stored.keys():
        if path not in stored:
            off[path] = MISSING
        elif path not in made:
            off[path] = SURPLUS
        elif node.stage == "select" and path.startswith(f"{CHOSEN}/"):
            if (out / path).read_text() not in ("", stored[path].blake3):
                off[path] = "is not the file of the best candidate"
        elif stored[path].blake3 not in ("", made[path]):
            off[path] = f"is not what its inputs give: it has {difference(out / path, folder / path)}"
    for path in sorted(off):
        both = path in stored and path in made
        cells = differing_cells(node.settings, out / path, folder / path) if both else None
        findings.problem(folder / path, off[path], [node], cells=cells)
    return not off
