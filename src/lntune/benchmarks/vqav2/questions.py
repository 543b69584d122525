"""questions-vqav2: VQAv2's validation questions, all or a random part, with their annotations."""

import json
from typing import Any

import numpy as np

from lntune.benchmarks.official_files import check_same_ids, field, parse_records, read_json, records_of
from lntune.benchmarks.prompting import Execution, QuestionSettings, with_images
from lntune.data.drops import Drops
from lntune.data.samples import Question, write_questions
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]

PACKAGES = ("numpy", "pillow")

_QUESTIONS, _ANNOTATIONS = "v2_Questions_Val_mscoco.zip", "v2_Annotations_Val_mscoco.zip"


class Settings(QuestionSettings):
    """How many questions at random (null: all; all as well if there are fewer), and the seed."""

    questions: int | None
    seed: int


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write questions.jsonl, set.json, the official questions.json and annotations.json, and what was dropped."""
    asked_path, annotated_path = job.folder("raw") / _QUESTIONS, job.folder("raw") / _ANNOTATIONS
    asked: Any = read_json(asked_path)
    annotated: Any = read_json(annotated_path)
    records = records_of(asked, asked_path, "questions")
    read, drops, number = len(records), Drops(), job.settings.questions
    if number is not None and number < read:
        chosen = sorted(np.random.default_rng(job.settings.seed).permutation(read)[:number])
        records = [records[k] for k in chosen]
        drops.choose("beyond the number asked for", read - number)
    questions = parse_records(records, _parse_question, asked_path, "question")
    known = records_of(annotated, annotated_path, "annotations")
    known_ids = parse_records(known, _parse_id, annotated_path, "annotation")
    wanted = {question.id: question for question in questions}
    annotations = {id: record for id, record in zip(known_ids, known, strict=True) if id in wanted}
    check_same_ids(wanted, annotations, "question_id", asked=asked_path, path=annotated_path)
    kept = with_images(job, "val2014.zip", questions, lambda one: f"{_QUESTIONS}: question {one.id}", drops)
    ids = {question.id for question in kept}
    records = [record for question, record in zip(questions, records, strict=True) if question.id in ids]
    mine = [record for id, record in annotations.items() if id in ids]
    (job.out / "questions.json").write_text(json.dumps(asked | {"questions": records}) + "\n")
    (job.out / "annotations.json").write_text(json.dumps(annotated | {"annotations": mine}) + "\n")
    write_questions(job.out, "val2014.zip", kept)
    files = {_QUESTIONS: {"questions": read}, _ANNOTATIONS: {"annotations": len(known)}}
    return drops.write(job.out, "questions", read, len(kept), files)


def _parse_id(record: object) -> str:
    return str(field(record, "question_id", int))


def _parse_question(record: object) -> Question:
    image = f"val2014/COCO_val2014_{field(record, 'image_id', int):012d}.jpg"
    return Question(_parse_id(record), image, field(record, "question", str))
