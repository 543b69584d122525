"""VQAv2's accuracy: the official normalisation, accuracies by hand, and the refusal of bad files."""

import gc
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lntune.benchmarks.vqav2 import score as vqav2_score
from lntune.errors import UserError
from races.official_vqa import Evaluation, Set

# What the official processPunctuation and processDigitArticle made of these texts.
NORMALISED = [
    ("T-shirt", "t shirt"),
    ("black - white", "black white"),
    ("a - b", "b"),
    ("- 5", "5"),
    ("5 -6", "5 6"),
    ("1,000", "1000"),
    ("1,000-2", "10002"),
    ("red,blue", "red blue"),
    ("red, blue", "red blue"),
    ("yes/no", "yes no"),
    ("x_y@z", "x y z"),
    ("is it? no", "is it no"),
    ("(two)", "2"),
    ("dog:", "dog:"),
    ("3.5 ft.", "3.5 ft"),
    ("U.S.A.", "usa"),
    ("." * 35 + "a1", "...a1"),
    ("None", "0"),
    ("none!", "0"),
    ("zero-one", "0 1"),
    ("Ten dogs", "10 dogs"),
    ("ten 10s", "10 10s"),
    ("a an the", ""),
    ("an\tapple", "apple"),
    ("The dont", "don't"),
    ("don't know", "don't know"),
    ("what's?", "what's"),
    ("Ive", "ive"),
    ("Id've", "id've"),
    ("lets", "lets"),
    ("twas", "'twas"),
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("yall'll", "y'all'll"),
    ("somebody'd", "somebodyd"),
]


@pytest.mark.parametrize(("text", "normal"), NORMALISED)
def test_normalises_as_the_official_script_does(text: str, normal: str) -> None:
    assert vqav2_score.normalise_answer(text) == normal


@pytest.mark.parametrize(("humans", "expected"), enumerate([0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1]))
def test_accuracy_by_how_many_humans_agree(humans: int, expected: float) -> None:
    answers = ("red",) * humans + ("blue",) * (10 - humans)
    assert vqav2_score.accuracy("red", answers) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "answers", "official", "always"),
    [
        ("yes", ["yes"] * 10, 1, 1),
        (" yes\n", ["yes"] * 10, 1, 1),
        ("Yes", ["yes"] * 10, 0, 1),
        ("yes.", ["yes"] * 10, 0, 1),
        ("Yes.", ["yes"] * 9 + ["no"], 1, 1),
        ("two", ["2"] * 10, 0, 1),
        ("two", ["2"] * 5 + ["two"] * 5, 1, 1),
        ("T-shirt", ["T-shirt"] * 10, 1, 1),
        ("t shirt", ["T-shirt"] * 10, 0, 1),
        ("t shirt", ["T-shirt"] * 9 + ["shirt"], 1, 1),
        ("", ["a"] * 5 + ["the"] * 5, 1, 1),
        ("dog", ["The dog."] * 2 + ["Dog!"] + ["cat"] * 7, 0.9, 0.9),
        ("fox", ["dog"] * 10, 0, 0),
    ],
)
def test_normalisation_depends_on_whether_the_humans_agree(
    prediction: str, answers: list[str], official: float, always: float
) -> None:
    assert vqav2_score.accuracy(prediction, tuple(answers)) == pytest.approx(official, abs=1e-12)
    assert vqav2_score.accuracy(prediction, tuple(answers), "always") == pytest.approx(always, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "answers", "official", "sight_beyond_text"),
    [
        ("Yes, there is a cat in the picture", ["yes"] * 7 + ["no"] * 3, 0, 1),
        ("yes", ["yes"] * 10, 1, 0),
        ("yes", ["yes"] * 9 + ["no"], 1, 1),
        ("A snowboard.", ["snowboard"] * 6 + ["board"] * 4, 1, 0),
        ("A snowboard.", ["no"] * 6 + ["board"] * 4, 0, 1),
        ("No, there is not", ["yes"] * 7 + ["no"] * 3, 0, 0.9),
        ("A cat, yes; no dog", ["yes"] * 6 + ["no"] * 4, 0, 1),
        ("YES", ["yes"] * 6 + ["no"] * 4, 1, 1),
        ("Red. Question: is it?", ["red"] * 6 + ["blue"] * 4, 0, 1),
        ("red###Human: no", ["red"] * 10, 0, 1),
        ("Answer: yes", ["yes"] * 6 + ["no"] * 4, 0, 0),
        ("The dog", ["dog"] * 6 + ["cat"] * 4, 1, 1),
    ],
)
def test_an_answer_that_holds_yes_or_no_is_judged_as_sight_beyond_text_does(
    prediction: str, answers: list[str], official: float, sight_beyond_text: float
) -> None:
    assert vqav2_score.accuracy(prediction, tuple(answers)) == pytest.approx(official, abs=1e-12)
    found = vqav2_score.accuracy(prediction, tuple(answers), "sight-beyond-text")
    assert found == pytest.approx(sight_beyond_text, abs=1e-12)


def annotation(number: int, answers: list[str], kinds: tuple[str, str] = ("what", "other")) -> dict[str, Any]:
    humans = [{"answer": a, "answer_confidence": "yes", "answer_id": n} for n, a in enumerate(answers, 1)]
    return {
        "image_id": 1,
        "question_id": number,
        "question_type": kinds[0],
        "answer_type": kinds[1],
        "multiple_choice_answer": answers[0],
        "answers": humans,
    }


QUESTIONS: dict[str, Any] = {
    "questions": [{"image_id": 1, "question_id": number, "question": "What is it?"} for number in (1, 2, 3)]
}
ANNOTATIONS: dict[str, Any] = {
    "annotations": [
        annotation(2, ["two"] * 2 + ["3"] * 8, ("how many", "number")),
        annotation(1, ["yes"] * 10, ("is the", "yes/no")),
        annotation(3, ["red"] * 3 + ["blue"] * 7, ("what", "other")),
    ]
}
ANSWERS: list[dict[str, Any]] = [
    {"question_id": 3, "answer": "Red."},
    {"question_id": 1, "answer": "Yes"},
    {"question_id": 2, "answer": "2"},
]


def write_all(folder: Path, *contents: object) -> tuple[Path, Path, Path]:
    """Questions, annotations and answers; a text is written as it is."""
    paths = (folder / "questions.json", folder / "annotations.json", folder / "answers.json")
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return paths


def test_score_by_hand(tmp_path: Path) -> None:
    paths = write_all(tmp_path, QUESTIONS, ANNOTATIONS, ANSWERS)
    assert vqav2_score.score(*paths) == {
        "overall": 50.0,
        "per_question_type": {"how many": 60.0, "is the": 0.0, "what": 90.0},
        "per_answer_type": {"number": 60.0, "yes/no": 0.0, "other": 90.0},
    }
    assert vqav2_score.score(*paths, normalise="always")["overall"] == 83.33
    accuracies = vqav2_score.question_accuracies(*vqav2_score.read(*paths))
    assert accuracies == pytest.approx({1: 0.0, 2: 0.6, 3: 0.9}, abs=1e-12)


def test_reads_the_official_zips_and_what_it_wrote(tmp_path: Path) -> None:
    zips = []
    for name, content in (("Questions", QUESTIONS), ("Annotations", ANNOTATIONS)):
        path = tmp_path / f"v2_{name}_Val_mscoco.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"v2_{name}.json", json.dumps(content))
        zips.append(path)
    answers = tmp_path / "answers.json"
    vqav2_score.write_answers(answers, [(row["question_id"], row["answer"]) for row in ANSWERS])
    assert vqav2_score.score(zips[0], zips[1], answers)["overall"] == 50.0


def test_refuses_other_zips(tmp_path: Path) -> None:
    path = tmp_path / "questions.zip"
    path.write_bytes(b"PK no")
    with pytest.raises(UserError, match=r"questions.zip: not a readable zip"):
        vqav2_score.read_questions(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("open_ended.json", "{}")
        archive.writestr("multiple_choice.json", "{}")
    with pytest.raises(UserError, match=r"questions.zip: holds 2 .json files instead of one"):
        vqav2_score.read_questions(path)


PIECES = (
    "yes", "no", "a", "the", "An", "red", "T-shirt", "1,000", "2", "two", "None", "3.5", "ft.", "dont", "couldnt've",
    "what's?", "u.s.", "-", ",", "!", "?", " ", "\n", "\t", "\u00a0", "(x)", "/", "caf\u00e9", "\u0663,\u0664", "..",
    ":", "'", "",
)  # fmt: skip


def some_answer(rng: random.Random) -> str:
    return rng.choice(("", " ")).join(rng.choices(PIECES, k=rng.choice((1, 1, 1, 2, 3))))


def some_humans(rng: random.Random) -> list[str]:
    few = [some_answer(rng) for _ in range(rng.randint(1, 4))]
    humans = rng.choices([*few, few[0], f" {few[0]}\n", few[0].upper()][: rng.choice((1, 2, 7))], k=10)
    return humans


@pytest.mark.parametrize("seed", range(4))
def test_scores_of_random_answers_are_those_of_the_official_steps(tmp_path: Path, seed: int) -> None:
    """To the last bit: what is said by few, in every order of the humans, and what rounds half-way."""
    rng = random.Random(seed)
    ids = rng.sample(range(10**6), 1500)
    said = {id: some_humans(rng) for id in ids}
    kinds = [("what", "other"), ("is the", "yes/no"), ("how many", "number"), ("why", "other")]
    questions = [{"image_id": 1, "question_id": id, "question": "What?"} for id in ids]
    annotations = [annotation(id, said[id], rng.choice(kinds)) for id in rng.sample(ids, len(ids))]
    answers = [{"question_id": id, "answer": rng.choice([*said[id], some_answer(rng)])} for id in ids]
    paths = write_all(tmp_path, {"questions": questions}, {"annotations": annotations}, answers)
    truth = Set.read(paths[1], paths[0])
    official = Evaluation(truth, truth.with_answers(paths[2], paths[0]))
    official.evaluate()
    assert vqav2_score.score(*paths) == official.scores
    truth = Set.read(paths[1], paths[0])
    unrounded = Evaluation(truth, truth.with_answers(paths[2], paths[0]), places=30)
    unrounded.evaluate()
    assert {
        id: 100 * accuracy for id, accuracy in vqav2_score.question_accuracies(*vqav2_score.read(*paths)).items()
    } == unrounded.per_question
    assert len(set(unrounded.per_question.values())) > 5  # 0, 30, 60, 90, 100, and 60 and 90 in other last bits


@pytest.mark.parametrize("ids", [[None] * 10, [*"0123456789"], [1.5, *range(9)], [*range(9), None], [*range(9), "9"]])
def test_humans_may_have_other_numbers_or_none(tmp_path: Path, ids: list[Any]) -> None:
    paths = write_all(tmp_path, QUESTIONS, ANNOTATIONS, ANSWERS)
    expected = vqav2_score.read_annotations(paths[1])
    content = json.loads(json.dumps(ANNOTATIONS))
    for record in content["annotations"]:
        for human, id in zip(record["answers"], ids, strict=True):
            human.pop("answer_id") if id is None else human.update(answer_id=id)
    paths[1].write_text(json.dumps(content))
    assert vqav2_score.read_annotations(paths[1]) == expected


def test_garbage_is_collected_again_after_reading(tmp_path: Path) -> None:
    paths = write_all(tmp_path, QUESTIONS, ANNOTATIONS, ANSWERS[1:])
    with pytest.raises(UserError):
        vqav2_score.read(*paths)
    assert gc.isenabled()


def changed(content: dict[str, Any], key: str, place: int, **fields: object) -> dict[str, Any]:
    """A copy in which one record has other fields; None deletes one."""
    copy: dict[str, Any] = json.loads(json.dumps(content))
    copy[key][place] = {k: v for k, v in (copy[key][place] | fields).items() if v is not None}
    return copy


NINE = [{"answer": "red", "answer_id": number} for number in range(9)]


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        (0, {"questions": []}, "holds no questions"),
        (0, QUESTIONS["questions"], "a list where an object with 'questions' is expected"),
        (0, changed(QUESTIONS, "questions", 2, question_id=1), "question_id 1 appears twice"),
        (0, changed(QUESTIONS, "questions", 1, question_id=None), "question 2: 'question_id' is missing"),
        (0, '{"questions": [\n{"question_id": 1,\n}]}', "line 3: not JSON (Expecting property name"),
        (1, changed(ANNOTATIONS, "annotations", 0, question_id=9), "question_id 9 is not in "),
        (1, changed(ANNOTATIONS, "annotations", 0, question_id=1), "question_id 1 appears twice"),
        (1, changed(ANNOTATIONS, "annotations", 1, answers=NINE), "annotation 2: question_id 1 has 9 "),
        (1, changed(ANNOTATIONS, "annotations", 1, answers=[*NINE, NINE[3]]), "annotation 2: question_id 1 has two "),
        (1, changed(ANNOTATIONS, "annotations", 2, answer_type=4), "annotation 3: 'answer_type' is an int"),
        (1, changed(ANNOTATIONS, "annotations", 2, question_id=True), "annotation 3: 'question_id' is a boolean, not"),
        (1, changed(ANNOTATIONS, "annotations", 0, answers="ten men"), "annotation 1: 'answers' is a string, not a"),
        (
            1,
            changed(ANNOTATIONS, "annotations", 0, answers=[*NINE, {"answer": "a", "answer_id": "3"}]),
            "annotation 1: ",
        ),
        (
            1,
            changed(ANNOTATIONS, "annotations", 0, answers=[*NINE, "red"]),
            "annotation 1: a string where an object with",
        ),
        (
            1,
            changed(ANNOTATIONS, "annotations", 0, answers=[*NINE, {"answer": None}]),
            "annotation 1: 'answer' is null",
        ),
        (1, {"annotations": [[]]}, "annotation 1: a list where an object with 'question_id' is expected"),
        (2, ANSWERS[1:], "no record for question_id 3 of "),
        (2, [], "no record for question_id 1 (and 2 more) of "),
        (2, [*ANSWERS, {"question_id": 7, "answer": "a"}], "question_id 7 is not in "),
        (2, [*ANSWERS, ANSWERS[0]], "question_id 3 appears twice"),
        (2, [*ANSWERS[:2], {"question_id": 2, "answer": 2}], "answer 3: 'answer' is an integer, not a str"),
        (2, {"1": "yes"}, "answer 1: 'answer' is missing"),
        (2, "[" * 100_000, "line 1: not JSON"),
    ],
)
def test_refuses_a_malformed_file(tmp_path: Path, file: int, content: object, complaint: str) -> None:
    contents: list[object] = [QUESTIONS, ANNOTATIONS, ANSWERS]
    contents[file] = content
    paths = write_all(tmp_path, *contents)
    with pytest.raises(UserError) as raised:
        vqav2_score.score(*paths)
    assert str(raised.value).startswith(f"{paths[file]}: {complaint}")
