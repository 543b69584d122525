"""The scoring stages: their official files give the same numbers to `lntune score`, and their intervals hold."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lntune.benchmarks.intervals import over_items, read_strata, value
from lntune.benchmarks.mme import score as mme_score
from lntune.benchmarks.pope import questions as pope_questions
from lntune.benchmarks.vqav2 import score as vqav2_score
from lntune.cli import score_app as app
from lntune.data.samples import ANSWERS, read_answers, read_questions, write_answers
from lntune.report.cells import cell_of
from score_formats import format_of
from stage_runs import Folders, draw_small, read, refusal, run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small(tmp_path_factory.mktemp("drawn"))


VQAV2 = {"questions": None, "broken_share": 0.0, "seed": 0}


def asked(world: Path, questions: str, images: str = "") -> Folders:
    """The folders of a benchmark's questions and of its images."""
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


def check_official(out: Path, stage: str, settings: dict[str, Any], inputs: Folders) -> None:
    """The official files that a score wrote, taken for somebody's answers, give the same score and the same answers."""
    again = out.with_name("again")
    run(again, stage, settings, {**inputs, "answers": out})
    written = {path.name: path.read_bytes() for path in again.iterdir() if path.name != ANSWERS}
    assert written == {path.name: path.read_bytes() for path in out.iterdir()}
    (given,) = (path for role, path in inputs.items() if role == "answers" and isinstance(path, Path))
    assert read_answers(again) == read_answers(given)


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
        mine = [right[f"{subtask}/{number}"] for number in range(6)]
        both = sum(a and b for a, b in zip(mine[::2], mine[1::2], strict=True))
        assert again["subtasks"][subtask]["score"] == pytest.approx(100 * sum(mine) / 6 + 100 * both / 3)
        part = "perception" if subtask in mme_score.PERCEPTION else "cognition"
        written = read(out / "per_item_scores.json")["questions"]
        assert [written[f"{subtask}/{number}"] for number in range(6)] == mine
        assert [one.name for one in read_strata(out)[part]].count(subtask) == 1
    assert metrics == {"perception": scores["perception"], "cognition": scores["cognition"]}
    for name in ("perception", "cognition"):
        low, high = scores["intervals"][name]
        assert low < scores[name] < high
        strata = read_strata(out)[name]
        assert value(strata) == pytest.approx(scores[name]) and over_items([strata]) == (low, high)


def test_scores_of_some_of_mmes_subtasks(world: Path, tmp_path: Path) -> None:
    run(tmp_path / "questions", "questions-mme", {"subtasks": ("color",), "broken_share": 0.0}, asked(world, "mme"))
    answers = answered(tmp_path / "answers", {f"color/{k}": ("yes", "no")[k % 2] for k in range(6)})
    inputs = {"answers": answers, "questions": tmp_path / "questions"}
    run(tmp_path / "score", "score-mme", {"subtasks": ("color",)}, inputs)
    scores = read(tmp_path / "score" / "scores.json")
    assert (scores["perception"], scores["cognition"]) == (200.0, 0)
    assert scores["intervals"] == {"perception": [200.0, 200.0], "cognition": None}
    assert cell_of("MME", [tmp_path / "score"], format_of("MME"), None).interval == "200.0..200.0/-"


def test_official_answers_to_mme_in_another_order_and_to_another_question(world: Path, tmp_path: Path) -> None:
    run(tmp_path / "questions", "questions-mme", {"subtasks": ("color",), "broken_share": 0.0}, asked(world, "mme"))
    (tmp_path / "official").mkdir()
    lines = (tmp_path / "questions" / "color.txt").read_text(encoding="utf-8").splitlines()
    official = tmp_path / "official" / "color.txt"
    shuffled = [f"{line}\tsaid {k}" for k, line in enumerate(lines)]
    official.write_text("\n".join([*shuffled[4:], *shuffled[:4]]) + "\n", encoding="utf-8")
    inputs = {"answers": tmp_path / "official", "questions": tmp_path / "questions"}
    run(tmp_path / "score", "score-mme", {"subtasks": ("color",)}, inputs)
    assert read_answers(tmp_path / "score") == {f"color/{k}": f"said {k}" for k in range(6)}
    official.write_text(official.read_text(encoding="utf-8").replace("?", "??", 1), encoding="utf-8")
    said = refusal(tmp_path / "again", "score-mme", {"subtasks": ("color",)}, inputs)
    assert said.startswith(f"{official}: question ") and "is not in" in said


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
    check_official(out, "score-pope", {}, inputs)
    scores, written = read(out / "scores.json"), read(out / "per_item_scores.json")
    for kind in pope_questions.KINDS:
        again = printed("pope", questions / f"coco_pope_{kind}.json", out / f"coco_pope_{kind}_answers.jsonl")
        assert scores[kind] == again
        mine = [mark for id, mark in right.items() if id.startswith(f"{kind}/")]
        assert again["accuracy"] == pytest.approx(100 * sum(mine) / len(mine))
        assert {len(its) for its in written["parts"][kind][kind].values()} == {6}  # questions of an image
        assert [one for its in written["parts"][kind][kind].values() for one in its] == [100.0 * one for one in mine]
        assert [one for id, one in written["questions"].items() if id.startswith(f"{kind}/")] == mine
        strata = read_strata(out)[kind]
        assert value(strata) == pytest.approx(again["accuracy"])
        assert over_items([strata]) == tuple(scores["intervals"][kind])
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
    check_official(out, "score-vqav2", {"normalise": "official"}, inputs)
    scores = read(out / "scores.json")
    again = printed("vqav2", questions / "questions.json", questions / "annotations.json", out / "answers.json")
    assert {name: scores[name] for name in again} == again
    assert again["overall"] == pytest.approx(100 * sum(right) / len(right), abs=0.01) == metrics["overall"]
    assert set(again["per_answer_type"]) == {"yes/no", "number", "other"}
    low, high = scores["intervals"]["overall"]
    assert low < again["overall"] < high
    written = read(out / "per_item_scores.json")
    images = {one.id: one.image for one in read_questions(questions)[1]}
    assert written["questions"].keys() == images.keys()
    assert {image: len(its) for image, its in written["parts"][""]["VQAv2"].items()} == Counter(images.values())
    strata = read_strata(out)[""]
    assert value(strata) == pytest.approx(again["overall"], abs=0.005) and over_items([strata]) == (low, high)


def test_scores_of_captions_are_those_of_its_official_files(world: Path, tmp_path: Path) -> None:
    questions, out = tmp_path / "questions", tmp_path / "score"
    settings = {"dataset": "flickr30k", "split": "test", "request": "?", "broken_share": 0.0}
    run(questions, "questions-captions", settings, asked(world, "flickr30k"))
    references = read(questions / "references.json")
    said = {str(one["image_id"]): one["caption"] for one in references["annotations"]}
    said[next(iter(said))] = ""
    references_words = run(tmp_path / "references", "tokenize-references", {}, {"questions": questions})
    assert references_words["references"] == len(references["annotations"])
    inputs = {"answers": answered(tmp_path / "answers", said), "references": tmp_path / "references"}
    metrics = run(out, "score-captions", {"least_words": 2, "most_words": 25}, inputs)
    scores = read(out / "scores.json")
    again = printed("captions", questions / "references.json", out / "captions.json")
    assert {name: scores[name] for name in again} == again
    assert list(again) == ["CIDEr", "BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "ROUGE_L"]
    written = read(out / "per_item_scores.json")["questions"]
    assert min(one["CIDEr"] for one in written.values()) == 0.0
    assert scores["CIDEr"] > 100
    low, high = scores["intervals"]["CIDEr"]
    assert low < scores["CIDEr"] == metrics["CIDEr"] < high
    strata = read_strata(out)[""]
    assert value(strata) == pytest.approx(scores["CIDEr"], rel=1e-12) and over_items([strata]) == (low, high)
    assert scores["followed"] == metrics["followed"] == (len(said) - 1) / len(said)  # all but the empty one


def test_how_many_captions_are_in_form_depends_on_the_words_asked_for(world: Path, tmp_path: Path) -> None:
    settings = {"dataset": "flickr30k", "split": "test", "request": "?", "broken_share": 0.0}
    run(tmp_path / "questions", "questions-captions", settings, asked(world, "flickr30k"))
    ids = [question.id for question in read_questions(tmp_path / "questions")[1]]
    said = {id: ("Yes.", "A dog.", "A dog runs.", "A dog runs home.")[k % 4] for k, id in enumerate(ids)}
    run(tmp_path / "references", "tokenize-references", {}, {"questions": tmp_path / "questions"})
    inputs = {"answers": answered(tmp_path / "answers", said), "references": tmp_path / "references"}
    run(tmp_path / "score", "score-captions", {"least_words": 3, "most_words": 3}, inputs)
    in_form = sum(answer == "A dog runs." for answer in said.values())
    assert 0 < read(tmp_path / "score" / "scores.json")["followed"] == in_form / len(said) < 0.5
