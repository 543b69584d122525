"""POPE's questions: JSON lines ``{question_id, image, text, label}``, in three files that differ in what is asked for.

Apart from the scorer, so that a change of how answers are scored does not ask the models again.
"""

from pathlib import Path
from typing import Literal, NamedTuple

from lntune.benchmarks.official_files import RecordError, field, parse_records, read_json_lines, unique
from lntune.errors import UserError

YesNo = Literal["yes", "no"]

KINDS = ("popular", "random", "adversarial")
"""The three files, in the order in which the paper prints them."""


class Question(NamedTuple):
    """One yes/no question about an object in an image (a file's name), and its right answer."""

    question_id: int
    text: str
    label: YesNo
    image: str = ""


def read_questions(path: Path) -> list[Question]:
    """The questions in their order; UserError names a line that is none, or an id that comes twice."""
    questions = parse_records(read_json_lines(path), _parse_question, path, "line")
    if not questions:
        raise UserError(f"{path}: holds no questions")
    unique(((question.question_id, None) for question in questions), path, "question_id")
    return questions


def _parse_question(record: object) -> Question:
    label = field(record, "label", str)
    if label not in ("yes", "no"):
        raise RecordError(f"'label' is {label!r}, neither yes nor no")
    right: YesNo = "yes" if label == "yes" else "no"
    has_image = isinstance(record, dict) and "image" in record
    image = field(record, "image", str) if has_image else ""
    return Question(field(record, "question_id", int), field(record, "text", str), right, image)
