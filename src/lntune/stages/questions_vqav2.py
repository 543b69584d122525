"""questions-vqav2: VQAv2's validation questions, all or a random part, with their annotations."""

import json
from typing import Any

import numpy as np

from lntune.benchmarks.official_files import check_same_ids, field, parse_records, read_json, records_of
from lntune.config.base import Frozen
from lntune.data.questions import Question, write_questions
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)

_QUESTIONS, _ANNOTATIONS = "v2_Questions_Val_mscoco.zip", "v2_Annotations_Val_mscoco.zip"


class Settings(Frozen):
    """How many questions at random (null: all; all as well if there are fewer), and the seed."""

    questions: int | None
    seed: int


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write questions.jsonl, set.json, and questions.json and annotations.json in the official form."""
    asked_path, annotated_path = job.folder("raw") / _QUESTIONS, job.folder("raw") / _ANNOTATIONS
    asked: Any = read_json(asked_path)
    annotated: Any = read_json(annotated_path)
    records = records_of(asked, asked_path, "questions")
    number = job.settings.questions
    if number is not None and number < len(records):
        chosen = sorted(np.random.default_rng(job.settings.seed).permutation(len(records))[:number])
        records = [records[k] for k in chosen]
    questions = parse_records(records, _parse_question, asked_path, "question")
    known = records_of(annotated, annotated_path, "annotations")
    known_ids = parse_records(known, _parse_id, annotated_path, "annotation")
    wanted = {question.id: question for question in questions}
    annotations = {id: record for id, record in zip(known_ids, known, strict=True) if id in wanted}
    check_same_ids(wanted, annotations, "question_id", asked=asked_path, path=annotated_path)
    (job.out / "questions.json").write_text(json.dumps(asked | {"questions": records}) + "\n")
    (job.out / "annotations.json").write_text(json.dumps(annotated | {"annotations": [*annotations.values()]}) + "\n")
    return {"questions": write_questions(job.out, "val2014.zip", questions)}


def _parse_id(record: object) -> str:
    return str(field(record, "question_id", int))


def _parse_question(record: object) -> Question:
    image = f"val2014/COCO_val2014_{field(record, 'image_id', int):012d}.jpg"
    return Question(_parse_id(record), image, field(record, "question", str))
