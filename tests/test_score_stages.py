"""The scoring stages: their official files give the same numbers to `lntune score`, and their intervals hold."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lntune.benchmarks import intervals, mme_score, pope_questions, vqav2_score
from lntune.benchmarks.intervals import bounds, interval, resampled
from lntune.data.questions import read_questions, write_answers
from lntune.report.cells import cell_of
from lntune.score_cli import app
from lntune.stages.score_mme import sum_interval
from stage_runs import Folders, draw_small, read, run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small(tmp_path_factory.mktemp("drawn"))


VQAV2 = {"questions": None, "broken_share": 0.0, "seed": 0}


def asked(world: Path, questions: str, images: str = "") -> Folders:
    """The folders of a benchmark's questions and of its pictures."""
    return {"raw": world / questions, "images": world / (images or questions)}


def printed(*arguments: object) -> Any:
    """What ``lntune score`` prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def answered(folder: Path, answers: Mapping[str, str]) -> Path:
    folder.mkdir()
    write_answers(folder, answers.items())
    return folder


def coins(number: int, seed: int) -> list[bool]:
    return [bool(one) for one in np.random.default_rng(seed).random(number) < 0.7]


def test_scores_of_mme_are_those_of_its_official_files(world: Path, tmp_path: Path) -> None:
    questions, out = tmp_path / "questions", tmp_path / "score"
    run(questions, "questions-mme", {"subtasks": mme_score.ALL, "broken_share": 0.0}, asked(world, "mme"))
    ids = [question.id for question in read_questions(questions)[1]]
    right = dict(zip(ids, coins(len(ids), 1), strict=True))
    truth = {id: ("yes", "no")[int(id.split("/")[1]) % 2] for id in ids}
    wrong = {"yes": "No, there\tis not.\n", "no": "Yes"}
    answers = {id: truth[id].title() if right[id] else wrong[truth[id]] for id in ids}
    inputs = {"answers": answered(tmp_path / "answers", answers), "questions": questions}
    metrics = run(out, "score-mme", {"subtasks": mme_score.ALL}, inputs)
    scores = read(out / "scores.json")
    again = printed("mme", out)
    assert {name: scores[name] for name in again} == again
    for subtask in mme_score.ALL:
        marks = [right[f"{subtask}/{number}"] for number in range(6)]
        both = sum(a and b for a, b in zip(marks[::2], marks[1::2], strict=True))
        assert again["subtasks"][subtask]["score"] == pytest.approx(100 * sum(marks) / 6 + 100 * both / 3)
        assert read(out / "marks.json")[subtask] == marks
    assert metrics == {"perception": scores["perception"], "cognition": scores["cognition"]}
    for name in ("perception", "cognition"):
        low, high = scores["intervals"][name]
        assert low < scores[name] < high


def test_scores_of_some_of_mmes_subtasks(world: Path, tmp_path: Path) -> None:
    run(tmp_path / "questions", "questions-mme", {"subtasks": ("color",), "broken_share": 0.0}, asked(world, "mme"))
    answers = answered(tmp_path / "answers", {f"color/{k}": ("yes", "no")[k % 2] for k in range(6)})
    inputs = {"answers": answers, "questions": tmp_path / "questions"}
    run(tmp_path / "score", "score-mme", {"subtasks": ("color",)}, inputs)
    scores = read(tmp_path / "score" / "scores.json")
    assert (scores["perception"], scores["cognition"]) == (200.0, 0)
    assert scores["intervals"] == {"perception": [200.0, 200.0], "cognition": None}
    assert cell_of("MME", scores).interval == "200.0..200.0/-"


def test_scores_of_pope_are_those_of_its_official_files(world: Path, tmp_path: Path) -> None:
    questions, out = tmp_path / "questions", tmp_path / "score"
    run(questions, "questions-pope", {"broken_share": 0.0}, asked(world, "pope", "coco"))
    labels = {
        f"{kind}/{one.question_id}": one.label
        for kind in pope_questions.KINDS
        for one in pope_questions.read_questions(questions / f"coco_pope_{kind}.json")
    }
    right = dict(zip(labels, coins(len(labels), 2), strict=True))
    answers = {id: label if right[id] else {"yes": "No.", "no": "Yes."}[label] for id, label in labels.items()}
    inputs = {"answers": answered(tmp_path / "answers", answers), "questions": questions}
    metrics = run(out, "score-pope", {}, inputs)
    scores, marks = read(out / "scores.json"), read(out / "marks.json")
    for kind in pope_questions.KINDS:
        again = printed("pope", questions / f"coco_pope_{kind}.json", out / f"coco_pope_{kind}_answers.jsonl")
        assert scores[kind] == again
        mine = [mark for id, mark in right.items() if id.startswith(f"{kind}/")]
        assert again["accuracy"] == pytest.approx(100 * sum(mine) / len(mine))
        assert list(marks[kind].values()) == mine
        assert scores["intervals"][kind][0] < again["accuracy"] < scores["intervals"][kind][1]
    assert metrics["mean_accuracy"] == pytest.approx(100 * sum(right.values()) / len(right))
    low, high = scores["intervals"]["mean_accuracy"]
    assert all(high - low < np.diff(scores["intervals"][kind]) for kind in pope_questions.KINDS)


def test_scores_of_vqav2_are_those_of_its_official_files(world: Path, tmp_path: Path) -> None:
    questions, out = tmp_path / "questions", tmp_path / "score"
    run(questions, "questions-vqav2", VQAV2, asked(world, "vqav2", "coco"))
    annotations = vqav2_score.read_annotations(questions / "annotations.json")
    right = coins(len(annotations), 3)
    answers = {
        str(id): max(set(one.answers), key=one.answers.count) if right[k] else "a giraffe"
        for k, (id, one) in enumerate(annotations.items())
    }
    inputs = {"answers": answered(tmp_path / "answers", answers), "questions": questions}
    metrics = run(out, "score-vqav2", {"normalise": "official"}, inputs)
    scores = read(out / "scores.json")
    again = printed("vqav2", questions / "questions.json", questions / "annotations.json", out / "answers.json")
    assert {name: scores[name] for name in again} == again
    assert again["overall"] == pytest.approx(100 * sum(right) / len(right), abs=0.01) == metrics["overall"]
    assert set(again["per_answer_type"]) == {"yes/no", "number", "other"}
    low, high = scores["intervals"]["overall"]
    assert low < again["overall"] < high


def test_scores_of_captions_are_those_of_its_official_files(world: Path, tmp_path: Path) -> None:
    questions, out = tmp_path / "questions", tmp_path / "score"
    settings = {"dataset": "flickr30k", "split": "test", "request": "?", "broken_share": 0.0}
    run(questions, "questions-captions", settings, asked(world, "flickr30k"))
    references = read(questions / "references.json")
    said = {str(one["image_id"]): one["caption"] for one in references["annotations"]}
    said[next(iter(said))] = ""
    inputs = {"answers": answered(tmp_path / "answers", said), "questions": questions}
    metrics = run(out, "score-captions", {}, inputs)
    scores = read(out / "scores.json")
    again = printed("captions", questions / "references.json", out / "captions.json")
    assert {name: scores[name] for name in again} == pytest.approx(again)
    assert list(again) == ["CIDEr", "BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "ROUGE_L"]
    marks = read(out / "marks.json")
    assert min(marks.values(), key=lambda mark: mark["CIDEr"])["CIDEr"] == 0.0
    assert scores["CIDEr"] == pytest.approx(np.mean([mark["CIDEr"] for mark in marks.values()]))
    assert scores["CIDEr"] > 100
    low, high = scores["intervals"]["CIDEr"]
    assert low < scores["CIDEr"] == metrics["CIDEr"] < high


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(150):
        low, high = interval((rng.random(120) < 0.7).astype(float))
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 150 <= 0.99


def test_an_interval_is_as_wide_as_theory_has_it() -> None:
    marks = np.repeat([0.0, 100.0], [200, 300])
    low, high = interval(marks)
    half = 1.96 * 100 * np.sqrt(0.6 * 0.4 / 500)
    assert (low, high) == pytest.approx((60 - half, 60 + half), abs=0.5)
    assert interval(marks) == (low, high) != interval(marks, seed=1)
    assert interval([5.0] * 7) == (5.0, 5.0)
    narrow = interval(marks, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_memory_bounds_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = np.random.default_rng(4).random((37, 2))

    def statistic(drawn: intervals.Marks) -> intervals.Marks:
        return np.asarray(drawn.prod(axis=2).mean(axis=1))

    at_once = resampled(marks, statistic)
    monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", 1000)
    assert np.array_equal(resampled(marks, statistic), at_once)
    assert at_once.shape == (intervals.RESAMPLES,)


def test_mmes_interval_draws_images_within_each_subtask() -> None:
    rng = np.random.default_rng(5)
    marks = {name: [bool(x) for x in rng.random(number) < 0.7] for name, number in (("count", 60), ("OCR", 40))}
    whole = sum_interval(marks, ("count", "OCR", "scene"))
    assert whole == sum_interval(marks, ("count", "OCR")) is not None
    parts = [sum_interval({name: found}, (name,)) for name, found in marks.items()]
    scores = [mme_score.score_subtask(found)["score"] for found in marks.values()]
    assert whole is not None and whole[0] < sum(scores) < whole[1]
    # Independent parts: variances add up, and so do the squares of widths.
    widths = [part[1] - part[0] for part in parts if part is not None]
    assert whole[1] - whole[0] == pytest.approx(np.hypot(*widths), rel=0.06)
    assert sum_interval({"count": [True] * 8, "OCR": [False] * 2}, ("count", "OCR")) == (200.0, 200.0)
    assert sum_interval({"count": [True, False] * 4}, ("count",)) == (50.0, 50.0)
    assert sum_interval(marks, ("scene",)) is None
    assert bounds(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
