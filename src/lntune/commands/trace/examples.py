"""Some of a benchmark's questions with a model's answers, what would have been right, and the marks they got.

The marks are those that the score was made of (its marks.json), not marked anew.
"""

import errno
import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lntune.benchmarks.official_files import read_lines
from lntune.benchmarks.pope.files import KINDS
from lntune.benchmarks.pope.files import read_questions as read_pope
from lntune.data.questions import Question, read_answers, read_questions
from lntune.errors import UserError
from lntune.store.layout import MANIFEST, Store
from lntune.store.manifest import InputRecord, Manifest, read_manifest

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Benchmark:
    """How to read a kind of score.

    Attributes:
        marks: the content of marks.json to marks by question id.
        right: the folder of the questions to what is right, by question id: a label, ten humans' answers, references.
        grade: a mark as a number, from 0.
        passed: the grade from which an answer counts as right; None where answers are only better or worse.
        told: a mark in words.
    """

    marks: Callable[[Any], dict[str, Any]]
    right: Callable[[Path], Mapping[str, Sequence[str]]]
    grade: Callable[[Any], float]
    passed: float | None
    told: Callable[[Any], str]


def _pope_right(folder: Path) -> dict[str, list[str]]:
    return {
        f"{kind}/{one.question_id}": [one.label]
        for kind in KINDS
        for one in read_pope(folder / f"coco_pope_{kind}.json")
    }


def _mme_right(folder: Path) -> dict[str, list[str]]:
    return {
        f"{path.stem}/{number}": [line.split("\t")[2]]
        for path in folder.glob("*.txt")
        for number, line in enumerate(read_lines(path))
    }


def _vqav2_right(folder: Path) -> dict[str, list[str]]:
    annotations = json.loads((folder / "annotations.json").read_text())["annotations"]
    return {str(one["question_id"]): [human["answer"] for human in one["answers"]] for one in annotations}


def _references(folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in json.loads((folder / "references.json").read_text())["annotations"]:
        found.setdefault(str(one["image_id"]), []).append(one["caption"])
    return found


def _by_question(images: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {id: mark for by_id in images.values() for id, mark in by_id.items()}


def _right_or_wrong(mark: bool) -> str:
    return "right" if mark else "WRONG"


_BENCHMARKS = {
    "score-pope": _Benchmark(
        lambda marks: {id: mark for images in marks.values() for id, mark in _by_question(images).items()},
        _pope_right,
        float,
        1.0,
        _right_or_wrong,
    ),
    "score-mme": _Benchmark(
        lambda marks: {
            f"{subtask}/{number}": mark
            for subtasks in marks.values()
            for subtask, right in subtasks.items()
            for number, mark in enumerate(right)
        },
        _mme_right,
        float,
        1.0,
        _right_or_wrong,
    ),
    # As many humans as are needed for 0.6 said the same, or more.
    "score-vqav2": _Benchmark(_by_question, _vqav2_right, float, 0.5, lambda mark: f"accuracy {mark:.2g} of 1"),
    "score-captions": _Benchmark(
        dict,
        _references,
        lambda mark: float(mark["CIDEr"]),
        None,
        lambda mark: ", ".join(f"{name} {value:.1f}" for name, value in mark.items()),
    ),
}


def examples(store: Store, score: InputRecord, number: int, wrong: bool = False) -> dict[str, Any]:
    """Up to ``number`` of a score's questions, spread evenly over the right answers and the wrong ones.

    Captions are neither: theirs are spread over all from the best to the worst, with ``wrong`` they are the worst. What
    is chosen depends on nothing but the marks. If the score, its answers or its questions are deleted since or damaged,
    ``problem`` says so and none are shown.

    Raises:
        UserError: questions of this kind of score cannot be shown.
    """
    benchmark = _BENCHMARKS.get(score.stage)
    if benchmark is None:
        known = ", ".join(_BENCHMARKS)
        raise UserError(
            f"{score.name}: its questions cannot be shown; src/lntune/commands/trace/examples.py knows those of {known}"
        )
    try:
        return _examples(store, score, benchmark, number, wrong)
    except FileNotFoundError as error:
        return {"problem": f"{error.filename} is deleted since; there is nothing to show", "shown": []}
    except UserError as error:
        return {"problem": str(error), "shown": []}


def _examples(store: Store, score: InputRecord, benchmark: _Benchmark, number: int, wrong: bool) -> dict[str, Any]:
    manifest = _manifest(store, score)
    asked, said = _one_input(manifest, "questions"), _one_input(manifest, "answers")
    predicted = _manifest(store, said)
    archive, questions = read_questions(_folder(store, asked))
    answers = read_answers(_folder(store, said))
    marks = benchmark.marks(json.loads((_folder(store, score) / "marks.json").read_text()))
    right = benchmark.right(_folder(store, asked))
    grades = [benchmark.grade(marks[question.id]) for question in questions]
    passed = [None if benchmark.passed is None else grade >= benchmark.passed for grade in grades]

    def shown(place: int) -> dict[str, Any]:
        question: Question = questions[place]
        return {
            "id": question.id,
            "image": question.image,
            "question": question.text,
            "answer": answers[question.id],
            "right": list(right[question.id]),
            "mark": marks[question.id],
            "told": benchmark.told(marks[question.id]),
            "passed": passed[place],
        }

    settings: Any = predicted.settings
    return {
        "images": str(_folder(store, _one_input(predicted, "images")) / archive),
        "prompt": settings["prompting"]["prompt"],
        "blind": settings["blind"],
        "questions": len(questions),
        "passed": None if benchmark.passed is None else sum(map(bool, passed)),
        "shown": [shown(place) for place in _chosen(grades, passed, number, wrong)],
    }


def _folder(store: Store, record: InputRecord) -> Path:
    return store.folder(record.stage, record.label, record.id)


def _manifest(store: Store, record: InputRecord) -> Manifest:
    path = _folder(store, record) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "deleted since", str(path.parent))
    return read_manifest(path)


def _one_input(manifest: Manifest, role: str) -> InputRecord:
    given = manifest.inputs[role]
    assert isinstance(given, InputRecord), f"{manifest.name}: {role} is played by several"
    return given


def _chosen(grades: Sequence[float], passed: Sequence[bool | None], number: int, wrong: bool) -> list[int]:
    """The places of the questions to show: by grade where answers are only better or worse, else in their order."""
    places = range(len(grades))
    if None in passed:
        best_first = sorted(places, key=lambda place: -grades[place])
        return best_first[-number:] if wrong else _spread(best_first, number)
    failed = [place for place in places if not passed[place]]
    if wrong:
        return _spread(failed, number)
    fine = [place for place in places if passed[place]]
    most_failed = max(number // 2, number - len(fine))
    few = _spread(failed, most_failed)
    return sorted(few + _spread(fine, number - len(few)))


def _spread(items: Sequence[Item], number: int) -> list[Item]:
    """The first, the last, and as many as are wanted at even distances between them."""
    if number >= len(items):
        return list(items)
    if number < 2:
        return list(items[:number])
    return [items[round(k * (len(items) - 1) / (number - 1))] for k in range(number)]


def examples_text(found: dict[str, Any], width: int) -> Iterator[str]:
    """What :func:`examples` found, in lines of at most ``width``."""
    if "problem" in found:
        yield f"questions: {found['problem']}"
        return
    passed = "" if found["passed"] is None else f", {found['passed']} answered rightly"
    yield f"{len(found['shown'])} of {found['questions']} questions{passed}"
    yield f"images: {found['images']}" + (" (the model was blind to them)" if found["blind"] else "")
    if found["prompt"] != "{question}":
        yield f"asked as: {found['prompt']!r}"
    for one in found["shown"]:
        yield ""
        yield f"{one['id']}  {one['image']}"
        lines = [("asked", one["question"]), ("answer", one["answer"] or "(nothing)")]
        lines += [("right", right) for right in _right_lines(one)]
        for name, text in [*lines, ("mark", one["told"])]:
            yield from textwrap.wrap(text, width, initial_indent=f"  {name:8}", subsequent_indent=" " * 10)


def _right_lines(one: dict[str, Any]) -> list[str]:
    """A label, or each reference, or the ten humans' answers in one line, the most frequent first."""
    counts = Counter(one["right"])
    if one["passed"] is None or len(one["right"]) == 1:
        return list(counts)
    return [", ".join(f"{text} ({count} of {len(one['right'])})" for text, count in counts.most_common())]
