"""score-mme: MME's perception and cognition from one model's answers, by the official rule."""

import json
from typing import Any

from pydantic import Field

from lntune.benchmarks.intervals import over_items
from lntune.benchmarks.mme import metric as mme_score
from lntune.benchmarks.official_files import read_lines
from lntune.benchmarks.per_item_scores import strata_of
from lntune.config import Frozen
from lntune.data.questions import read_answers
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)


class Settings(Frozen):
    """The subtasks that were asked."""

    subtasks: tuple[str, ...] = Field(strict=False)


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write an official file for each subtask, scores.json and marks.json."""
    answers = read_answers(job.folder("answers"))
    for subtask in job.settings.subtasks:
        lines = []
        for number, asked in enumerate(read_lines(job.folder("questions") / f"{subtask}.txt")):
            image, question, answer = asked.split("\t")
            lines.append(mme_score.Line(image, question, answer, answers[f"{subtask}/{number}"]))
        mme_score.write_subtask(job.out / f"{subtask}.txt", lines)
    scores: dict[str, Any] = mme_score.score_folder(job.out, job.settings.subtasks)
    right = mme_score.marks(job.out, job.settings.subtasks)
    parts = {"perception": mme_score.PERCEPTION, "cognition": mme_score.COGNITION}
    marks = {part: {name: right[name] for name in names if name in right} for part, names in parts.items()}
    intervals = {part: over_items([strata]) for part, strata in strata_of("MME", marks).items()}
    (job.out / "scores.json").write_text(json.dumps(scores | {"intervals": intervals}, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps(marks) + "\n")
    return {"perception": scores["perception"], "cognition": scores["cognition"]}
