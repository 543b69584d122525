"""questions-pope: POPE's three files of yes/no questions."""

from pathlib import Path

from lntune.benchmarks.official_files import read_lines
from lntune.benchmarks.pope.files import KINDS, read_questions
from lntune.benchmarks.prompting import Execution, with_images
from lntune.config import Frozen
from lntune.data.drops import Drops
from lntune.data.questions import Question, write_questions
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]

PACKAGES = ("pillow",)


class Settings(Frozen):
    """All three files, whole; and what share of images may be unusable."""

    broken_share: float


def file_of(kind: str) -> str:
    """The official name of a kind's file."""
    return f"coco_pope_{kind}.json"


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write questions.jsonl, set.json, the official files, dropped.json and dropped.jsonl."""
    questions, lines = [], dict[str, str]()
    for kind in KINDS:
        path = job.folder("raw") / file_of(kind)
        for one, line in zip(read_questions(path), read_lines(path), strict=True):
            id = f"{kind}/{one.question_id}"
            questions.append(Question(id, f"val2014/{Path(one.image).name}", one.text))
            lines[id] = line
    drops = Drops()
    kept = with_images(job, job.settings, "val2014.zip", questions, lambda one: f"coco_pope_{one.id}", drops)
    for kind in KINDS:
        mine = [lines[question.id] + "\n" for question in kept if question.id.startswith(f"{kind}/")]
        (job.out / file_of(kind)).write_text("".join(mine), encoding="utf-8")
    write_questions(job.out, "val2014.zip", kept)
    return drops.write(job.out, "questions", len(questions), len(kept))
