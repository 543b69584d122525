"""score-mme: MME's perception and cognition from one model's answers, by the official rule."""

import json
from typing import Any

import numpy as np
from pydantic import Field

from lntune.benchmarks import mme_score
from lntune.benchmarks.intervals import Marks, interval
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


def sum_interval(marks: dict[str, list[bool]], names: tuple[str, ...]) -> tuple[float, float] | None:
    """The interval of the subtasks' summed score; images are drawn anew within each. None without a subtask."""
    present = [np.asarray(marks[name], dtype=np.float64).reshape(-1, 2) for name in names if name in marks]
    if not present:
        return None
    sizes = {len(one) for one in present}
    if len(sizes) == 1:  # equal sizes: draw places once for all subtasks
        stacked = np.stack(present, axis=1)
        return interval(stacked, lambda drawn: sum(_score(drawn[:, :, k]) for k in range(len(present))))  # type: ignore[arg-type, return-value]
    halves = [interval(one, _score, seed=k) for k, one in enumerate(present)]
    centre = sum((low + high) / 2 for low, high in halves)
    spread = float(np.sqrt(sum(((high - low) / 2) ** 2 for low, high in halves)))
    return centre - spread, centre + spread


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write an official file for each subtask, scores.json and marks.json."""
    answers = read_answers(job.folder("answers"))
    for subtask in job.settings.subtasks:
        asked = (job.folder("questions") / f"{subtask}.txt").read_text().splitlines()
        lines = [
            mme_score.Line(*line.split("\t"), answers[f"{subtask}/{number}"]) for number, line in enumerate(asked)
        ]
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
