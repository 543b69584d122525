"""score-mme: MME's perception and cognition from one model's answers, by the official rule."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from lntune.benchmarks import mme_score
from lntune.benchmarks.intervals import Marks, bounds, resampled
from lntune.benchmarks.official_files import read_lines
from lntune.config.base import Frozen
from lntune.data.questions import read_answers
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)


class Settings(Frozen):
    """The subtasks that were asked."""

    subtasks: tuple[str, ...] = Field(strict=False)


Execution = NoExecution


def _score(marks: Marks) -> Marks:
    """acc + acc_plus of resampled images: (resamples, images, 2) to (resamples,)."""
    total: Marks = 100.0 * marks.mean(axis=(1, 2)) + 100.0 * marks.all(axis=2).mean(axis=1)
    return total


def sum_interval(marks: Mapping[str, Sequence[bool]], names: Sequence[str]) -> tuple[float, float] | None:
    """The interval of the subtasks' summed score; images are drawn anew within each. None without a subtask."""
    present = [np.asarray(marks[name], dtype=np.float64).reshape(-1, 2) for name in names if name in marks]
    if not present:
        return None
    return bounds(np.sum([resampled(one, _score, seed=k) for k, one in enumerate(present)], axis=0))


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
    marks = mme_score.marks(job.out, job.settings.subtasks)
    intervals = {
        "perception": sum_interval(marks, mme_score.PERCEPTION),
        "cognition": sum_interval(marks, mme_score.COGNITION),
    }
    (job.out / "scores.json").write_text(json.dumps(scores | {"intervals": intervals}, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps(marks) + "\n")
    return {"perception": scores["perception"], "cognition": scores["cognition"]}
