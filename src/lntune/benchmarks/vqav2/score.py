"""score-vqav2: VQAv2 accuracy of one model's answers, by the official rule."""

import json
from typing import Any, Literal

from lntune.benchmarks.intervals import over_items
from lntune.benchmarks.per_item_scores import by_image, strata_of
from lntune.benchmarks.vqav2 import metric as vqav2_score
from lntune.config import Frozen
from lntune.data.questions import read_answers, read_questions
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)


class Settings(Frozen):
    """Whether answers are normalised as the official code does, or always."""

    normalise: Literal["official", "always"]


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write answers.json (the official result format), scores.json and marks.json."""
    official = job.folder("questions")
    said = job.out / "answers.json"
    vqav2_score.write_answers(said, ((int(id), text) for id, text in read_answers(job.folder("answers")).items()))
    annotations, answers = vqav2_score.read(official / "questions.json", official / "annotations.json", said)
    accuracies = vqav2_score.question_accuracies(annotations, answers, job.settings.normalise)
    scores: dict[str, Any] = vqav2_score.summarise(annotations, accuracies)
    images = {question.id: question.image for question in read_questions(official)[1]}
    marks = by_image(images, {str(id): accuracy for id, accuracy in accuracies.items()})
    intervals = {"overall": over_items([strata_of("VQAv2", marks)[""]])}
    (job.out / "scores.json").write_text(json.dumps(scores | {"intervals": intervals}, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps(marks) + "\n")
    return {"overall": scores["overall"]}
