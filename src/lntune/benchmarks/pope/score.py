"""score-pope: POPE's accuracy and its companions for each of its three files.

As the official evaluate.py (revision 3df3ba1) computes them. Answers are JSON lines ``{question, answer}``; the order
matches them to the questions.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from lntune.benchmarks.intervals import Stratum, by_image, over_items, strata_of, value, write_score
from lntune.benchmarks.official_files import field, parse_records, read_json_lines
from lntune.benchmarks.pope.questions import KINDS, PopeQuestion, YesNo, file_of, read_questions
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
    answers = samples.read_answers(job.folder("answers"))
    _, questions = samples.read_questions(job.folder("questions"))
    images = {question.id: question.image for question in questions}
    scores, right = {}, dict[str, dict[str, bool]]()
    for kind in KINDS:
        official = job.folder("questions") / file_of(kind)
        said = job.out / f"coco_pope_{kind}_answers.jsonl"
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


def score(questions_path: Path, answers_path: Path) -> dict[str, float]:
    """``accuracy``, ``precision``, ``recall``, ``f1``, ``yes_ratio`` (x100; positive is yes), TP, FP, TN, FN.

    A ratio whose denominator is zero is 0; the official script stops there.
    """
    said = [(answer, question.label) for question, answer in _answered(questions_path, answers_path)]
    tp, fp = said.count(("yes", "yes")), said.count(("yes", "no"))
    tn, fn = said.count(("no", "no")), said.count(("no", "yes"))
    precision, recall = _ratio(tp, tp + fp), _ratio(tp, tp + fn)
    return {
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
    return {question.question_id: answer == question.label for question, answer in answered}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _answered(questions_path: Path, answers_path: Path) -> list[tuple[PopeQuestion, YesNo]]:
    """Each question and its answer as it is read; UserError for another number, or an answer at another's place.

    Position alone decides the score, so an answer that repeats the text of another question betrays a shifted
    file. A text that is no question's (a prompt with an instruction added) says nothing.
    """
    questions = read_questions(questions_path)
    answers = parse_records(read_json_lines(answers_path), _parse_answer_record, answers_path, "line")
    if len(questions) != len(answers):
        raise UserError(f"{answers_path}: {len(answers)} answers to the {len(questions)} questions of {questions_path}")
    texts = {question.text for question in questions}
    for number, (question, (repeated, _)) in enumerate(zip(questions, answers, strict=True), 1):
        if repeated != question.text and repeated in texts:
            both = f"answers {repeated!r} where {questions_path} asks {question.text!r}"
            raise UserError(f"{answers_path}: line {number}: {both}; the order must be the same")
    return [(question, parse_answer(text)) for question, (_, text) in zip(questions, answers, strict=True)]


def _parse_answer_record(record: object) -> tuple[str | None, str]:
    """The question, which is repeated for the reader, if the record has it; and a model's free text."""
    answer = field(record, "answer", str)
    has_question = isinstance(record, dict) and "question" in record
    return field(record, "question", str) if has_question else None, answer
