"""score-pope: POPE's accuracy and its companions for each of its three files.

As the official evaluate.py (revision 3df3ba1) computes them. Its answers are JSON lines ``{question, answer}``; the
order matches them to the questions.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lntune.benchmarks.answer_files import Answer, answers_of, by_id, matched, read_answers
from lntune.benchmarks.intervals import Stratum, by_image, over_items, strata_of, value, write_score
from lntune.benchmarks.pope.questions import KINDS, PopeQuestion, YesNo, answer_file_of, file_of, read_questions
from lntune.config import Frozen
from lntune.data import samples
from lntune.errors import UserError
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)


class Settings(Frozen):
    """Nothing to choose."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write an official answer file for each kind, scores.json and per_item_scores.json."""
    answers = answers_of(job, lambda folder: _official_answers(folder, job.folder("questions")))
    _, questions = samples.read_questions(job.folder("questions"))
    images = {question.id: question.image for question in questions}
    scores, right = {}, dict[str, dict[str, bool]]()
    for kind in KINDS:
        official = job.folder("questions") / file_of(kind)
        said = job.out / answer_file_of(kind)
        mine = [question for question in questions if question.id.startswith(f"{kind}/")]
        write_answers(said, ((question.text, answers[question.id]) for question in mine))
        scores[kind] = score(official, said)
        right[kind] = {f"{kind}/{id}": one for id, one in right_answers(official, said).items()}
    parts = {kind: {kind: by_image(images, right[kind], 100.0)} for kind in KINDS}
    intervals = {kind: over_items([strata]) for kind, strata in strata_of(parts).items()}
    every = {id: one for by_id in right.values() for id, one in by_id.items()}
    together = [Stratum.of("POPE", by_image(images, every, 100.0))]  # an image comes with its questions of all kinds
    mean = value(together)
    document = {**scores, "mean_accuracy": mean, "intervals": {**intervals, "mean_accuracy": over_items([together])}}
    write_score(job.out, document, parts, every)
    return {"mean_accuracy": mean}


def _official_answers(folder: Path, questions: Path) -> dict[str, str]:
    """Answers by question id from the official files of all kinds."""
    files = ((kind, _answered(questions / file_of(kind), folder / answer_file_of(kind))) for kind in KINDS)
    return {f"{kind}/{one.question_id}": text for kind, answered in files for one, text in answered}


def parse_answer(answer: str) -> YesNo:
    """The official reading: no, if the first sentence holds the piece ``No``, ``no`` or ``not``; else yes.

    The first sentence ends at the first full stop; commas are deleted; pieces are what single spaces part. So
    an empty answer, ``NO``, ``No!`` and ``There isn't one`` are yes, and ``Yes, there is no doubt`` is no.
    """
    pieces = answer.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(pieces) else "yes"


def write_answers(path: Path, answers: Iterable[tuple[str, str]]) -> None:
    """Writes pairs of question and answer, in the order of the questions, in the official format."""
    lines = (json.dumps({"question": question, "answer": answer}) for question, answer in answers)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def score(questions_path: Path, answers_path: Path, subset: bool = False) -> dict[str, Any]:
    """``accuracy``, ``precision``, ``recall``, ``f1``, ``yes_ratio`` (x100; positive is yes), TP, FP, TN, FN.

    A ratio whose denominator is zero is 0; the official script stops there.
    """
    answered = _answered(questions_path, answers_path, subset)
    said = [(parse_answer(text), question.label) for question, text in answered]
    tp, fp = said.count(("yes", "yes")), said.count(("yes", "no"))
    tn, fn = said.count(("no", "no")), said.count(("no", "yes"))
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    return {
        **({"subset": {"answered": len(said), "of": len(read_questions(questions_path))}} if subset else {}),
        "accuracy": 100 * _ratio(tp + tn, len(said)),
        "precision": 100 * precision,
        "recall": 100 * recall,
        "f1": 100 * _ratio(2 * precision * recall, precision + recall),
        "yes_ratio": 100 * _ratio(tp + fp, len(said)),
        "TP": tp,
        "FP": fp,
        "TN": tn,
        "FN": fn,
    }


def right_answers(questions_path: Path, answers_path: Path) -> dict[int, bool]:
    """Whether each question was answered rightly, by question id."""
    answered = _answered(questions_path, answers_path)
    return {question.question_id: parse_answer(text) == question.label for question, text in answered}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _answered(questions_path: Path, answers_path: Path, subset: bool = False) -> list[tuple[PopeQuestion, str]]:
    """Each question and its answer: by id if all answers have one of the questions', else by position.

    UserError for an answer that tells of another question, and for one too few or too many.
    """
    questions = {question.question_id: question for question in read_questions(questions_path)}
    asked = {id: samples.Question(str(id), one.image, one.text) for id, one in questions.items()}
    answers = read_answers(answers_path, "answer")
    if answers and all("question_id" in one.record for one in answers):
        given = by_id(answers_path, answers, "question_id", int)
        # LLaVA numbers the questions of all kinds in one row: there the row of a kind is known by its words.
        row = [] if given.keys() <= asked.keys() else _row_of(list(asked.values()), answers)
        if not row:
            said = matched(asked, given, questions_path, answers_path, "question_id", subset)
            return [(questions[id], text) for id, text in said.items()]
        answers = row
    if len(answers) != len(asked):
        both = f"{len(answers)} answers to the {len(asked)} questions of {questions_path}"
        raise UserError(f"{answers_path}: {both}; with each one's question_id, --subset scores those that are there")
    for line, (question, one) in enumerate(zip(asked.values(), answers, strict=True), 1):
        if difference := one.difference(question):
            raise UserError(
                f"{answers_path}: answer {line} {difference} of {questions_path}; the order must be the same"
            )
    return [(question, one.text) for question, one in zip(questions.values(), answers, strict=True)]


def _row_of(asked: list[samples.Question], answers: list[Answer]) -> list[Answer]:
    """The answers in a row whose records repeat these questions; none if there is no such row."""
    rows = (answers[start : start + len(asked)] for start in range(len(answers) - len(asked) + 1))
    said = all(one.told("question", "prompt") for one in answers)
    return next((row for row in rows if said and not any(map(Answer.difference, row, asked))), [])
