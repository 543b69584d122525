"""A benchmark's questions in one form, whichever benchmark they belong to: a line of JSON each."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lntune.data.samples import SET, write_set

QUESTIONS = "questions.jsonl"
ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Question:
    """A question about one image (a member of the set's archive); ``id`` is unique in its set."""

    id: str
    image: str
    text: str


def write_questions(folder: Path, archive: str, questions: Iterable[Question]) -> int:
    """Write the questions and the name of the archive that holds their images; return how many there are."""
    return write_set(folder, QUESTIONS, archive, "questions", questions)


def read_questions(folder: Path) -> tuple[str, list[Question]]:
    """The archive's name and the questions of a folder that :func:`write_questions` wrote."""
    archive = json.loads((folder / SET).read_text())["archive"]
    lines = (folder / QUESTIONS).read_text().splitlines()
    return archive, [Question(**json.loads(line)) for line in lines]


def write_answers(folder: Path, answers: Iterable[tuple[str, str]]) -> None:
    """Write each question's id with the model's answer."""
    lines = (json.dumps({"id": id, "answer": answer}) + "\n" for id, answer in answers)
    (folder / ANSWERS).write_text("".join(lines))


def read_answers(folder: Path) -> dict[str, str]:
    """Answers by question id."""
    records = (json.loads(line) for line in (folder / ANSWERS).read_text().splitlines())
    return {record["id"]: record["answer"] for record in records}
