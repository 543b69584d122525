"""Some of a benchmark's questions with a model's answers, what would have been right, and the score of each.

The scores are those that the benchmark's score was made of (its per_item_scores.json), not computed again.
"""

import errno
import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lntune.benchmarks.intervals import PER_ITEM_SCORES
from lntune.benchmarks.registry import Benchmark, of_score, score_stages
from lntune.data.samples import Question, read_answers, read_questions
from lntune.errors import UserError
from lntune.store.manifest import MANIFEST, InputRecord, Manifest, Store, read_manifest

Item = TypeVar("Item")


def examples(store: Store, score: InputRecord, number: int, wrong: bool = False) -> dict[str, Any]:
    """Up to ``number`` of a score's questions, spread evenly over the right answers and the wrong ones.

    Captions are neither: theirs are spread over all from the best to the worst, with ``wrong`` they are the worst. What
    is chosen depends on the scores alone. If the score, its answers or its questions are deleted since or damaged,
    ``problem`` says so and none are shown.

    Raises:
        UserError: questions of this kind of score cannot be shown.
    """
    benchmark = of_score(score.stage)
    if benchmark is None:
        raise UserError(f"{score.name}: its questions cannot be shown; only those of {', '.join(score_stages())} can")
    try:
        return _examples(store, score, benchmark, number, wrong)
    except FileNotFoundError as error:
        return {"problem": f"{error.filename} is deleted since; there is nothing to show", "shown": []}
    except UserError as error:
        return {"problem": str(error), "shown": []}


def _examples(store: Store, score: InputRecord, benchmark: Benchmark, number: int, wrong: bool) -> dict[str, Any]:
    manifest = _manifest(store, score)
    asked, said = _one_input(manifest, "questions"), _one_input(manifest, "answers")
    predicted = _manifest(store, said)
    archive, questions = read_questions(_folder(store, asked))
    answers = read_answers(_folder(store, said))
    scores = json.loads((_folder(store, score) / PER_ITEM_SCORES).read_text())["questions"]
    how = benchmark.examples
    right = how.right(_folder(store, asked))
    grades = [how.grade(scores[question.id]) for question in questions]
    passed = [None if how.passed is None else grade >= how.passed for grade in grades]

    def shown(place: int) -> dict[str, Any]:
        question: Question = questions[place]
        return {
            "id": question.id,
            "image": question.image,
            "question": question.text,
            "answer": answers[question.id],
            "right": list(right[question.id]),
            "score": scores[question.id],
            "described": how.describe(scores[question.id]),
            "passed": passed[place],
        }

    settings: Any = predicted.settings
    return {
        "images": str(_folder(store, _one_input(predicted, "images")) / archive),
        "prompt": settings["prompting"]["prompt"],
        "blind": settings["blind"],
        "questions": len(questions),
        "passed": None if how.passed is None else sum(map(bool, passed)),
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
        for name, text in [*lines, ("score", one["described"])]:
            yield from textwrap.wrap(text, width, initial_indent=f"  {name:8}", subsequent_indent=" " * 10)


def _right_lines(one: dict[str, Any]) -> list[str]:
    """A label, or each reference, or the ten humans' answers in one line, the most frequent first."""
    counts = Counter(one["right"])
    if one["passed"] is None or len(one["right"]) == 1:
        return list(counts)
    return [", ".join(f"{text} ({count} of {len(one['right'])})" for text, count in counts.most_common())]
