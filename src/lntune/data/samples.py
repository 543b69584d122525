"""Training samples and benchmarks' questions in one form each, whichever data set they come from.

Both are lines of JSON that name images by member; ``set.json`` names the archive that holds the images.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.errors import UserError

SAMPLES, QUESTIONS, ANSWERS = "samples.jsonl", "questions.jsonl", "answers.jsonl"
SET = "set.json"

_UNASKABLE = re.compile("[\ud800-\udfff]|<image>")
"""Half a surrogate pair, which no tokenizer takes, and what stands for the image in a prompt."""


@dataclass(frozen=True)
class Sample:
    """A conversation about one image; turns alternate, the user's first. ``source`` names file and record."""

    id: str
    image: str
    turns: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Question:
    """A question about one image; ``id`` is unique in its set. UserError if no model can be asked it.

    ``shots`` are the examples that were drawn for it, if the protocol has them drawn: questions and answers in words.
    """

    id: str
    image: str
    text: str
    shots: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for text in (self.text, *sum(self.shots, ())):
            if bad := _UNASKABLE.search(text):
                where = f"question {self.id} about {self.image}"
                raise UserError(f"{where}: no prompt can hold {bad[0]}, in {text!r}; mend the benchmark's file")


def write_samples(folder: Path, archive: str, samples: Sequence[Sample]) -> None:
    """Write the samples and the name of the archive that holds their images."""
    _write_set(folder, SAMPLES, archive, "samples", samples)


def write_questions(folder: Path, archive: str, questions: Sequence[Question]) -> None:
    """Write the questions and the name of the archive that holds their images."""
    _write_set(folder, QUESTIONS, archive, "questions", questions)


def _write_set(folder: Path, name: str, archive: str, unit: str, records: Sequence[object]) -> None:
    with (folder / name).open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps({key: value for key, value in record.__dict__.items() if value != ()}) + "\n")
    (folder / SET).write_text(json.dumps({"archive": archive, unit: len(records)}) + "\n", encoding="utf-8")


def read_samples(folder: Path) -> tuple[str, list[Sample]]:
    """The archive's name and the samples of a folder that :func:`write_samples` wrote."""
    samples = [Sample(**record | {"turns": tuple(record["turns"])}) for record in _read_lines(folder / SAMPLES)]
    return _archive(folder), samples


def read_questions(folder: Path) -> tuple[str, list[Question]]:
    """The archive's name and the questions of a folder that :func:`write_questions` wrote."""
    return _archive(folder), [
        Question(**record | {"shots": tuple(map(tuple, record.get("shots", ())))})
        for record in _read_lines(folder / QUESTIONS)
    ]


def _archive(folder: Path) -> str:
    name: str = json.loads((folder / SET).read_bytes())["archive"]
    return name


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def write_answers(folder: Path, answers: Iterable[tuple[str, str]]) -> None:
    """Write each question's id with the model's answer."""
    lines = (json.dumps({"id": id, "answer": answer}) + "\n" for id, answer in answers)
    (folder / ANSWERS).write_text("".join(lines), encoding="utf-8")


def read_answers(folder: Path) -> dict[str, str]:
    """Answers by question id."""
    return {record["id"]: record["answer"] for record in _read_lines(folder / ANSWERS)}
