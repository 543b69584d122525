"""score-vqav2: VQAv2's accuracy, as the official vqaEval.py (revision a013f00) computes it.

Three normalisations are named choices: ``official``, ``always`` and that of Sight-Beyond-Text (47f96a3,
``llava/eval/mmoverall/vqa_metric.py``).
The script is followed as Python 3 runs it; under its own Python 2 a percentage that lies half-way between two
places is rounded away from zero, and only the digits 0 to 9 count as digits.
"""

import gc
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lntune.benchmarks.answer_files import answers_of, by_id, matched, read_answers
from lntune.benchmarks.intervals import by_image, over_items, strata_of, write_score
from lntune.benchmarks.official_files import RecordError, check_same_ids, field, read_by_id
from lntune.config import Frozen
from lntune.data import samples
from lntune.errors import UserError
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)

Normalise = Literal["official", "always", "sight-beyond-text"]

HUMANS = 10
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_MARKS = re.compile("Question|Answer|###|</s>")
_PERIOD = re.compile(r"\.(?!\d)")
# The official script hands its regex flags over as the count of replacements: the number of re.UNICODE is 32.
_PERIODS_REMOVED = 32
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBER_WORDS)}
_ARTICLES = frozenset({"a", "an", "the"})
# Contractions that the official table restores where one apostrophe was left out.
_COMPLETE = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
    they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
    when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
    would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


# Each contraction short of one apostrophe to the contraction; one official entry is backwards.
CONTRACTIONS = {"somebody'd": "somebodyd"} | {
    word[:place] + word[place + 1 :]: word
    for word in _COMPLETE.split()
    for place, mark in enumerate(word)
    if mark == "'"
}


class Settings(Frozen):
    """How answers are normalised."""

    normalise: Normalise


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write answers.json (the official result format), scores.json and per_item_scores.json."""
    official, said = job.folder("questions"), job.out / "answers.json"
    asked = official / "questions.json", official / "annotations.json"
    given = answers_of(job, lambda folder: {str(id): one for id, one in read(*asked, folder / said.name)[1].items()})
    write_answers(said, ((int(id), text) for id, text in given.items()))
    annotations, answers = read(*asked, said)
    accuracies = question_accuracies(annotations, answers, job.settings.normalise)
    scores: dict[str, Any] = summarise(annotations, accuracies)
    images = {question.id: question.image for question in samples.read_questions(official)[1]}
    questions = {str(id): accuracy for id, accuracy in accuracies.items()}
    parts = {"": {"VQAv2": by_image(images, questions, 100.0)}}
    intervals = {"overall": over_items([strata_of(parts)[""]])}
    write_score(job.out, scores | {"intervals": intervals}, parts, questions)
    return {"overall": scores["overall"]}


class Annotation(NamedTuple):
    """What ten humans answered to one question, and its kinds."""

    question_type: str
    answer_type: str
    answers: tuple[str, ...]


def normalise_answer(text: str) -> str:
    """Punctuation, periods, case, number words, articles and contractions made alike, by the official steps.

    A punctuation mark is deleted where the text has it next to a space, or has digit-comma-digit anywhere;
    else it becomes a space.
    """
    normal = text
    number_with_comma = _DIGIT_COMMA_DIGIT.search(text) is not None
    for mark in _PUNCTUATION:
        if mark in text:
            deleted = number_with_comma or f"{mark} " in text or f" {mark}" in text
            normal = normal.replace(mark, "" if deleted else " ")
    normal = _PERIOD.sub("", normal, count=_PERIODS_REMOVED)
    words = (_NUMBERS.get(word, word) for word in normal.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def yes_or_no(prediction: str) -> str:
    """What Sight-Beyond-Text makes of an answer: ``Yes`` or ``No`` of one that holds either, if only within a word.

    What follows a mark of its prompts is cut off first. So ``A snowboard.`` is ``No``.
    """
    text = _MARKS.split(prediction, maxsplit=1)[0]
    return next((found.capitalize() for found in ("yes", "no") if found in text or found.capitalize() in text), text)


def accuracy(prediction: str, answers: tuple[str, ...], normalise: Normalise = "official") -> float:
    """Mean over the humans of min(1, how many of the others said the prediction / 3); from 0 to 1.

    ``official`` normalises prediction and answers only if the humans did not all say the same to the letter;
    ``always`` normalises both in any case, so that ``Yes.`` is right where all ten said ``yes``.
    ``sight-beyond-text`` is ``official`` for what :func:`yes_or_no` makes of the prediction: ``Yes, it is`` is right
    where humans differ and said ``yes``, but nothing is where all ten did, whose word is not ``Yes`` to the letter.
    """
    if normalise == "sight-beyond-text":
        prediction = yes_or_no(prediction)
    differ = len(set(map(_one_line, set(answers)))) > 1
    alike = _normalised_line if normalise == "always" or differ else _one_line
    wanted = alike(prediction)
    matches = [alike(answer) == wanted for answer in answers]
    return _mean_over_humans(tuple(matches)) if True in matches else 0.0


def score(
    questions: Path, annotations: Path, answers: Path, normalise: Normalise = "official", subset: bool = False
) -> dict[str, object]:
    """``overall``, ``per_question_type`` and ``per_answer_type``: mean accuracies in percent, to 2 places."""
    known, said = read(questions, annotations, answers, subset)
    scored = {id: one for id, one in known.items() if id in said}
    of_all = {"subset": {"answered": len(said), "of": len(known)}} if subset else {}
    return of_all | summarise(scored, question_accuracies(scored, said, normalise))


def question_accuracies(
    annotations: Mapping[int, Annotation], answers: Mapping[int, str], normalise: Normalise = "official"
) -> dict[int, float]:
    """The accuracy of each annotated question, from 0 to 1, by question id."""
    return {id: accuracy(answers[id], annotation.answers, normalise) for id, annotation in annotations.items()}


def summarise(annotations: Mapping[int, Annotation], accuracies: Mapping[int, float]) -> dict[str, object]:
    """The values of :func:`score` from the questions' accuracies."""
    by_question_type: dict[str, list[float]] = {}
    by_answer_type: dict[str, list[float]] = {}
    for question_id, annotation in annotations.items():
        by_question_type.setdefault(annotation.question_type, []).append(accuracies[question_id])
        by_answer_type.setdefault(annotation.answer_type, []).append(accuracies[question_id])
    return {
        "overall": _percent([accuracies[question_id] for question_id in annotations]),
        "per_question_type": {name: _percent(values) for name, values in by_question_type.items()},
        "per_answer_type": {name: _percent(values) for name, values in by_answer_type.items()},
    }


def read(
    questions_path: Path, annotations_path: Path, answers_path: Path, subset: bool = False
) -> tuple[dict[int, Annotation], dict[int, str]]:
    """Annotations (in their order) and answers by question id; all files hold the same ids, but for a ``subset``.

    What is read is kept, and looking through it for garbage would take a third of the time: that pauses.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        questions, annotations = read_questions(questions_path), read_annotations(annotations_path)
        check_same_ids(questions, annotations, "question_id", asked=questions_path, path=annotations_path)
        given = by_id(answers_path, read_answers(answers_path, "answer"), "question_id", int)
        asked = {id: samples.Question("", "", text) for id, text in questions.items()}
        answers = matched(asked, given, questions_path, answers_path, "question_id", subset)
    finally:
        if collected:
            gc.enable()
    return annotations, answers


def read_questions(path: Path) -> dict[int, str]:
    """The questions' texts by id."""
    questions = read_by_id(path, lambda one: _numbered(one, "question"), "question", "question_id", "questions")
    if not questions:
        raise UserError(f"{path}: holds no questions; get the file again")
    return questions


def read_annotations(path: Path) -> dict[int, Annotation]:
    """The annotations by question id; UserError for any without exactly ten answers."""
    return read_by_id(path, lambda one: _as_nearly_all(one) or _as_any(one), "annotation", "question_id", "annotations")


def write_answers(path: Path, answers: Iterable[tuple[int, str]]) -> None:
    """Writes pairs of question id and answer in the official result format."""
    records = [{"question_id": question_id, "answer": answer} for question_id, answer in answers]
    path.write_text(json.dumps(records) + "\n", encoding="utf-8", newline="\n")


@lru_cache(maxsize=1 << 17)
def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 17)
def _normalised_line(text: str) -> str:
    return normalise_answer(_one_line(text))


@lru_cache(maxsize=1 << HUMANS)
def _mean_over_humans(matches: tuple[bool, ...]) -> float:
    """The accuracy from which humans said the prediction."""
    number = sum(matches)
    # Added up human by human, in the order of the file: a shorter formula differs in the last bits, which
    # shows after rounding where a mean lies half-way.
    return float(sum(min(1, (number - match) / 3) for match in matches)) / len(matches)


def _percent(accuracies: list[float]) -> float:
    return round(100 * float(sum(accuracies)) / len(accuracies), 2)


def _numbered(record: object, key: str) -> tuple[int, str]:
    """A record's question id, and the text under a key."""
    if type(record) is dict:
        question_id, text = record.get("question_id"), record.get(key)
        if type(question_id) is int and type(text) is str:
            return question_id, text
    return field(record, "question_id", int), field(record, key, str)


def _as_nearly_all(record: Any) -> tuple[int, Annotation] | None:
    """An annotation in which nothing is amiss and ten answers are numbered; None for others, which may be right."""
    try:
        humans, question_id = record["answers"], record["question_id"]
        answers = tuple([human["answer"] for human in humans])
        numbers = {human["answer_id"] for human in humans}
        question_type, answer_type = record["question_type"], record["answer_type"]
    except (TypeError, KeyError):
        return None
    right = (
        type(humans) is list
        and len(answers) == len(numbers) == HUMANS
        and type(question_id) is int
        and set(map(type, numbers)) == {int}
        and set(map(type, (question_type, answer_type, *answers))) == {str}
    )
    return (question_id, Annotation(question_type, answer_type, answers)) if right else None


def _as_any(record: object) -> tuple[int, Annotation]:
    question_id = field(record, "question_id", int)
    humans = field(record, "answers", list)
    if len(humans) != HUMANS:
        raise RecordError(f"question_id {question_id} has {len(humans)} human answers instead of {HUMANS}")
    numbers = [human["answer_id"] for human in humans if isinstance(human, dict) and "answer_id" in human]
    if len(set(map(str, numbers))) != len(numbers):
        raise RecordError(f"question_id {question_id} has two human answers of one answer_id")
    answers = tuple(field(human, "answer", str) for human in humans)
    kinds = field(record, "question_type", str), field(record, "answer_type", str)
    return question_id, Annotation(*kinds, answers)
