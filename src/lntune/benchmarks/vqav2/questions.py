"""questions-vqav2: VQAv2's validation questions, all or a random part, with their annotations."""

import json
from typing import Any

import numpy as np

from lntune.benchmarks.official_files import check_same_ids, field, parse_records, read_json, records_of
from lntune.benchmarks.prompting import Example, Execution, QuestionSettings, with_images, with_shots
from lntune.config.protocol import DrawnShots
from lntune.data.drops import Drops
from lntune.data.samples import Question, write_questions
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]

PACKAGES = ("numpy", "pillow")

_QUESTIONS, _ANNOTATIONS = "v2_Questions_Val_mscoco.zip", "v2_Annotations_Val_mscoco.zip"


class Settings(QuestionSettings):
    """How many questions at random (null: all; all as well if there are fewer), and the seed.

    With ``shots`` their seed puts all questions in order: first the pool of examples, behind it those that are asked.
    """

    questions: int | None
    seed: int
    shots: DrawnShots | None = None


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write questions.jsonl, set.json, the official questions.json and annotations.json, and what was dropped."""
    asked_path, annotated_path = job.folder("raw") / _QUESTIONS, job.folder("raw") / _ANNOTATIONS
    asked: Any = read_json(asked_path)
    annotated: Any = read_json(annotated_path)
    records = records_of(asked, asked_path, "questions")
    read, drops, number, drawn = len(records), Drops(), job.settings.questions, job.settings.shots
    order, pool = np.random.default_rng(job.settings.seed).permutation(read), list[Question]()
    if drawn:
        order = np.random.RandomState(drawn.seed).permutation(read)  # so Sight-Beyond-Text, with seed 42, asks the same
        pool = parse_records([records[k] for k in order[: drawn.pool]], _parse_question, asked_path, "question")
        order = np.roll(order, -drawn.pool)
    if number is not None and number < read:
        records = [records[k] for k in sorted(order[:number])]
        drops.choose("beyond the number asked for", read - number)
    questions = parse_records(records, _parse_question, asked_path, "question")
    known = records_of(annotated, annotated_path, "annotations")
    known_ids = parse_records(known, _parse_id, annotated_path, "annotation")
    wanted = {question.id: question for question in (*questions, *pool)}
    annotations = {id: record for id, record in zip(known_ids, known, strict=True) if id in wanted}
    check_same_ids(wanted, annotations, "question_id", asked=asked_path, path=annotated_path)
    kept = with_images(job, "val2014.zip", questions, lambda one: f"{_QUESTIONS}: question {one.id}", drops)
    if drawn:
        first = parse_records([annotations[one.id] for one in pool], _first_answer, annotated_path, "annotation")
        examples = [Example(one.id, one.text, [said]) for one, said in zip(pool, first, strict=True)]
        kept = with_shots(kept, examples, drawn, asked_path)
    ids = {question.id for question in kept}
    records = [record for question, record in zip(questions, records, strict=True) if question.id in ids]
    mine = [record for id, record in annotations.items() if id in ids]
    (job.out / "questions.json").write_text(json.dumps(asked | {"questions": records}) + "\n", encoding="utf-8")
    (job.out / "annotations.json").write_text(json.dumps(annotated | {"annotations": mine}) + "\n", encoding="utf-8")
    write_questions(job.out, "val2014.zip", kept)
    files = {_QUESTIONS: {"questions": read}, _ANNOTATIONS: {"annotations": len(known)}}
    return drops.write(job.out, "questions", read, len(kept), files)


def _parse_id(record: object) -> str:
    return str(field(record, "question_id", int))


def _first_answer(record: object) -> str:
    return field(next(iter(field(record, "answers", list)), None), "answer", str)


def _parse_question(record: object) -> Question:
    image = f"val2014/COCO_val2014_{field(record, 'image_id', int):012d}.jpg"
    return Question(_parse_id(record), image, field(record, "question", str))
