"""questions-vqav2: VQAv2's validation questions, all or a random part, with their annotations."""

import json
from typing import Any

import numpy as np

from lntune.benchmarks.official_files import read_json
from lntune.config.base import Frozen
from lntune.data.questions import Question, write_questions
from lntune.errors import UserError
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)

_QUESTIONS, _ANNOTATIONS = "v2_Questions_Val_mscoco.zip", "v2_Annotations_Val_mscoco.zip"


class Settings(Frozen):
    """How many questions at random (null: all), and the seed."""

    questions: int | None
    seed: int


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write questions.jsonl, set.json, and questions.json and annotations.json in the official form."""
    raw = job.folder("raw")
    asked: Any = read_json(raw / _QUESTIONS)
    annotated: Any = read_json(raw / _ANNOTATIONS)
    records = asked["questions"]
    number = job.settings.questions
    if number is not None:
        if number > len(records):
            raise UserError(f"{raw / _QUESTIONS}: the protocol asks for {number} questions, there are {len(records)}")
        chosen = sorted(np.random.default_rng(job.settings.seed).permutation(len(records))[:number])
        records = [records[k] for k in chosen]
    ids = {record["question_id"] for record in records}
    annotations = [record for record in annotated["annotations"] if record["question_id"] in ids]
    (job.out / "questions.json").write_text(json.dumps(asked | {"questions": records}) + "\n")
    (job.out / "annotations.json").write_text(json.dumps(annotated | {"annotations": annotations}) + "\n")
    questions = (
        Question(str(r["question_id"]), f"val2014/COCO_val2014_{r['image_id']:012d}.jpg", r["question"]) for r in records
    )
    return {"questions": write_questions(job.out, "val2014.zip", questions)}
