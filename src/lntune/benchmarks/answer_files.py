"""Answers of any model to a benchmark's questions, in its official format or in that of another tool.

LLaVA writes ``{question_id, prompt, text}``; VLMEvalKit ``{question, answer, prediction}``, where ``answer`` is the
right one; lmms-eval ``{doc, filtered_resps}``. What a record tells of its question is compared with the benchmark's, so
that answers that slipped by a line are refused.
"""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from lntune.benchmarks.official_files import Key, check_same_ids, field, parse_records, read_records, unique
from lntune.data import samples
from lntune.data.samples import Question
from lntune.errors import UserError
from lntune.store.job import Job


class Answer(NamedTuple):
    """What a model said, and the record that holds it."""

    text: str
    record: Mapping[str, Any]

    def told(self, *names: str) -> str:
        """What the record tells under the first of these names that is text; "" if nothing."""
        return next((one for name in names if isinstance(one := self.record.get(name), str)), "")

    def difference(self, question: Question) -> str:
        """What it tells of another question; the words may have others around them, the image another folder."""
        text, image = self.told("question", "prompt"), self.told("image", "image_source")
        if text and _plain(question.text) not in _plain(text):
            return f"is to {text!r}, not to {question.text!r}"
        if image and question.image and PurePath(image).stem != PurePath(question.image).stem:
            return f"is about {image!r}, not about {question.image!r}"
        return ""


def answers_of(job: Job[Any, Any], read: Callable[[Path], Mapping[str, str]]) -> Mapping[str, str]:
    """The answers that a job scores, by question id: a model's, or what ``read`` makes of official files.

    The latter are written into the job's folder as well, as a model's are, so that they can be shown.
    """
    folder = job.folder("answers")
    if (folder / samples.ANSWERS).is_file():
        return samples.read_answers(folder)
    found = read(folder)
    samples.write_answers(job.out, found.items())
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" ?.")


def read_answers(path: Path, key: str) -> list[Answer]:
    """The answers that a file has under ``key``, or as another tool writes them; UserError names a record."""
    return parse_records(read_records(path), lambda record: _parse(record, key), path, "answer")


def _parse(record: Any, key: str) -> Answer:
    if type(record) is dict and len(record) == 2 and type(record.get(key)) is str:
        return Answer(record[key], record)  # nearly all
    known = record if isinstance(record, dict) else {}
    if "filtered_resps" in known:
        record = known = field(record, "doc", dict) | {"prediction": "".join(field(record, "filtered_resps", list))}
    own = "prediction" if "prediction" in known else "text" if "prompt" in known and key not in known else key
    return Answer(field(record, own, str), known)


def by_id(path: Path, answers: list[Answer], key: str, kind: type[Key]) -> dict[Key, Answer]:
    """The answers by the id of a ``kind`` that each has under ``key``."""
    ids = parse_records([one.record for one in answers], lambda record: field(record, key, kind), path, "answer")
    return unique(zip(ids, answers, strict=True), path, key)


def matched(
    asked: Mapping[Key, Question], given: Mapping[Key, Answer], questions: Path, path: Path, key: str, subset: bool
) -> dict[Key, str]:
    """The answer to each question, or for a ``subset`` to each that has one; UserError for one to another question."""
    wanted = {id: one for id, one in asked.items() if id in given} if subset and given else asked
    cure = "" if subset else "; --subset scores the others alone"
    check_same_ids(wanted, given, key, asked=questions, path=path, cure=cure)
    for id, one in wanted.items():
        # A record of two fields, the official file's, tells nothing.
        if len(given[id].record) > 2 and (difference := given[id].difference(one)):
            raise UserError(f"{path}: the answer to {key} {id!r} {difference} of {questions}; ask its questions again")
    return {id: given[id].text for id in wanted}
