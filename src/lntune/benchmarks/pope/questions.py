"""questions-pope: POPE's three files of yes/no questions, which differ in what is asked for.

They hold JSON lines ``{question_id, image, text, label}``.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from lntune.benchmarks.official_files import RecordError, field, parse_records, read_json_lines, read_lines, unique
from lntune.benchmarks.prompting import Execution, QuestionSettings, with_images
from lntune.data.drops import Drops
from lntune.data.samples import Question, write_questions
from lntune.errors import UserError
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]

PACKAGES = ("pillow",)

YesNo = Literal["yes", "no"]

KINDS = ("popular", "random", "adversarial")
"""The three files, in the order in which the paper prints them."""


class Settings(QuestionSettings):
    """All three files, whole."""


def file_of(kind: str) -> str:
    """The official name of a kind's file."""
    return f"coco_pope_{kind}.json"


def answer_file_of(kind: str) -> str:
    """The official name of a file of answers to a kind's questions."""
    return f"coco_pope_{kind}_answers.jsonl"


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
    kept = with_images(job, "val2014.zip", questions, lambda one: f"coco_pope_{one.id}", drops)
    for kind in KINDS:
        mine = [lines[question.id] + "\n" for question in kept if question.id.startswith(f"{kind}/")]
        (job.out / file_of(kind)).write_text("".join(mine), encoding="utf-8")
    write_questions(job.out, "val2014.zip", kept)
    files = {file_of(kind): {"questions": sum(id.startswith(f"{kind}/") for id in lines)} for kind in KINDS}
    return drops.write(job.out, "questions", len(questions), len(kept), files)


class PopeQuestion(NamedTuple):
    """One yes/no question about an object in an image (a file's name), and its right answer."""

    question_id: int
    text: str
    label: YesNo
    image: str = ""


def read_questions(path: Path) -> list[PopeQuestion]:
    """The questions in their order; UserError names a line that is none, or an id that comes twice."""
    questions = parse_records(read_json_lines(path), _parse_question, path, "line")
    if not questions:
        raise UserError(f"{path}: holds no questions; get the file again")
    unique(((question.question_id, None) for question in questions), path, "question_id")
    return questions


def _parse_question(record: object) -> PopeQuestion:
    label = field(record, "label", str)
    if label not in ("yes", "no"):
        raise RecordError(f"'label' is {label!r}, neither yes nor no")
    right: YesNo = "yes" if label == "yes" else "no"
    has_image = isinstance(record, dict) and "image" in record
    image = field(record, "image", str) if has_image else ""
    return PopeQuestion(field(record, "question_id", int), field(record, "text", str), right, image)
