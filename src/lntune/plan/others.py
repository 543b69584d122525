"""Rows of somebody else's models and answers: the scores that their cells show, and what these rest on."""

import hashlib
from pathlib import Path

from lntune.benchmarks.registry import by_name
from lntune.config.catalog import LOCK, Place
from lntune.config.report_item import RowSettings
from lntune.errors import UserError
from lntune.plan.models import Models, seed_label
from lntune.plan.node import Node
from lntune.plan.study import once
from lntune.stages import fetch, predict_other
from lntune.stages.asked import Execution


def scores_of_others(plan: Models, row: RowSettings, benchmark: str) -> list[Node]:
    """The scores of another's row on one benchmark: one, or of a model that samples its answers one a seed."""
    known, questions = by_name()[benchmark], plan.questions(benchmark)
    if row.answers is not None:
        answers = _answer_files(plan, row.answers, benchmark)
        return [plan.scored(known, [answers.label], answers, questions)]
    assert row.model is not None, "or else answers"
    images, threads = plan.source(plan.scale.benchmarks[benchmark][-1]), plan.threads("predict-other")
    inputs = {"model": plan.fetched(row.model), "questions": questions, "images": images}
    batch = plan.scale.prediction.batch or plan.scale.execution.prediction_batch
    on = dict(plan.on_device("predict-other"))
    given = Execution(**on, batch_size=batch, threads=threads, workers=threads)
    prompting, found = plan.protocol.prompting(known.protocol), []
    for seed in plan.seeds if plan.protocol.temperature else [None]:
        label = [row.model, *seed_label(seed or 0), benchmark]
        settings = predict_other.Settings(prompting=prompting, **dict(plan.decoding), seed=seed)
        answers = plan.node("predict-other", label, settings, inputs, given)
        found.append(plan.scored(known, label, answers, questions))
    return found


@once
def _answer_files(plan: Models, folder: str, benchmark: str) -> Node:
    """Other people's answers to a benchmark's questions, fetched from a folder; UserError if a file is missing."""
    known = by_name()[benchmark]
    names = known.answer_files(plan.protocol.options(known.protocol))
    if not names:
        raise UserError(f"{folder}: {known.column} takes no official answer files; remove row or column")
    root = plan.study.root.resolve()
    paths = {one: plan.study.answer_file(folder, f"{known.name}/{one}") for one in names}
    digests = {one: hashlib.sha256((root / path).read_bytes()).hexdigest() for one, path in paths.items()}
    name = Path(folder).name
    execution = fetch.Execution(
        entry=name,
        about=f"answers to {known.column} in its official format, from the folder {name}",
        licence="unknown",
        places={one: Place(path=str(path)) for one, path in paths.items()},
        root=str(root),
        lock=str(root / LOCK),
    )
    return plan.node("fetch", [name, known.name], fetch.Settings(files=digests), execution=execution)
