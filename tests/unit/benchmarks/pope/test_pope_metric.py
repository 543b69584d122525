"""POPE's score: the official reading of odd answers, counts by hand, and the refusal of bad files."""

import json
from pathlib import Path

import pytest

from lntune.benchmarks.pope import score as pope_score
from lntune.errors import UserError

# What the official evaluate.py made of these answers.
READINGS = [
    ("Yes", "yes"),
    ("No", "no"),
    ("no", "no"),
    ("not", "no"),
    ("NO", "yes"),
    ("No!", "yes"),
    ("No,", "no"),
    ("No,there", "yes"),
    ("Not sure", "yes"),
    ("There isn't one", "yes"),
    ("Yes, there is no doubt", "no"),
    ("", "yes"),
    (".No", "yes"),
    ("Yes. No", "yes"),
    ("No. Yes", "no"),
    ("N.o", "yes"),
    ("n,o", "no"),
    ("is n,ot", "no"),
    ("  no", "no"),
    ("No\nNothing", "yes"),
    ("it is not\there", "yes"),
    ("I do not know", "no"),
    ("None", "yes"),
]


@pytest.mark.parametrize(("answer", "reading"), READINGS)
def test_reads_an_answer_as_the_official_script_does(answer: str, reading: str) -> None:
    assert pope_score.parse_answer(answer) == reading


def write_json_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def question(number: int, label: str) -> dict[str, object]:
    return {"question_id": number, "image": "v.jpg", "text": f"Is there a {number}?", "label": label}


def files(folder: Path, labels: list[str], answers: list[str]) -> tuple[Path, Path]:
    questions = [question(number, label) for number, label in enumerate(labels, 1)]
    asked = write_json_lines(folder / "questions.json", *questions)
    pope_score.write_answers(
        folder / "answers.jsonl",
        [(str(row["text"]), answer) for row, answer in zip(questions, answers, strict=True)],
    )
    return asked, folder / "answers.jsonl"


def test_score_by_hand(tmp_path: Path) -> None:
    labels = ["yes", "yes", "yes", "no", "no"]
    answers = ["Yes", "", "No", "NO", "There is not one"]
    asked, answered = files(tmp_path, labels, answers)
    assert pope_score.score(asked, answered) == {
        "accuracy": 60.0,
        "precision": 66.66666666666666,
        "recall": 66.66666666666666,
        "f1": 66.66666666666666,
        "yes_ratio": 60.0,
        "TP": 2,
        "FP": 1,
        "TN": 1,
        "FN": 1,
    }
    assert pope_score.right_answers(asked, answered) == {1: True, 2: True, 3: False, 4: False, 5: True}


@pytest.mark.parametrize(
    ("labels", "answers", "expected"),
    [
        (["yes", "no"], ["no", "no"], (50.0, 0.0, 0.0, 0.0, 0.0)),
        (["no", "no"], ["yes", "no"], (50.0, 0.0, 0.0, 0.0, 50.0)),
        (["no"], ["no"], (100.0, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_a_ratio_of_nothing_is_zero(
    tmp_path: Path, labels: list[str], answers: list[str], expected: tuple[float, ...]
) -> None:
    result = pope_score.score(*files(tmp_path, labels, answers))
    names = ("accuracy", "precision", "recall", "f1", "yes_ratio")
    assert tuple(result[name] for name in names) == expected


def test_another_wording_of_the_question_is_accepted(tmp_path: Path) -> None:
    asked = write_json_lines(tmp_path / "q.json", question(1, "yes"), question(2, "no"))
    answered = write_json_lines(
        tmp_path / "a.jsonl", {"question": "Is there a 1? Yes or no.", "answer": "yes"}, {"answer": "no"}
    )
    assert pope_score.score(asked, answered)["accuracy"] == 100.0


GOOD_QUESTIONS = [question(1, "yes"), question(2, "no")]
WITH_IDS = "with each one's question_id, --subset scores those that are there"
GOOD_ANSWERS = [{"question": "Is there a 1?", "answer": "yes"}, {"question": "Is there a 2?", "answer": "no"}]


@pytest.mark.parametrize(
    ("questions", "complaint"),
    [
        ([], "holds no questions"),
        ([question(1, "yes"), question(1, "no")], "question_id 1 appears twice"),
        ([question(1, "yes"), {"question_id": 2, "text": "?"}], "line 2: 'label' is missing"),
        ([question(1, "Yes")], "line 1: 'label' is 'Yes', neither yes nor no"),
        ([{**question(1, "yes"), "question_id": "one"}], "line 1: 'question_id' is a string, not an integer"),
        ([{**question(1, "yes"), "question_id": True}], "line 1: 'question_id' is a boolean, not an integer"),
        ([GOOD_QUESTIONS], "line 1: a list where an object with 'label' is expected"),
    ],
)
def test_refuses_malformed_questions(tmp_path: Path, questions: list[object], complaint: str) -> None:
    asked = write_json_lines(tmp_path / "q.json", *questions)
    answered = write_json_lines(tmp_path / "a.jsonl", *GOOD_ANSWERS)
    with pytest.raises(UserError) as raised:
        pope_score.score(asked, answered)
    assert str(raised.value).startswith(f"{asked}: {complaint}; ")


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        (GOOD_ANSWERS[:1], f"1 answers to the 2 questions of {{asked}}; {WITH_IDS}"),
        ([*GOOD_ANSWERS, GOOD_ANSWERS[0]], f"3 answers to the 2 questions of {{asked}}; {WITH_IDS}"),
        ([GOOD_ANSWERS[0], {"question": "Is there a 2?"}], "answer 2: 'answer' is missing"),
        ([GOOD_ANSWERS[0], {"answer": None}], "answer 2: 'answer' is null, not a string"),
        ([GOOD_ANSWERS[0], "no"], "answer 2: a string where an object with 'answer' is expected"),
        (
            GOOD_ANSWERS[::-1],
            "answer 1 is to 'Is there a 2?', not to 'Is there a 1?' of {asked}; the order must be the same",
        ),
    ],
)
def test_refuses_malformed_answers(tmp_path: Path, answers: list[object], complaint: str) -> None:
    asked = write_json_lines(tmp_path / "q.json", *GOOD_QUESTIONS)
    answered = write_json_lines(tmp_path / "a.jsonl", *answers)
    with pytest.raises(UserError) as raised:
        pope_score.score(asked, answered)
    assert str(raised.value).startswith(f"{answered}: {complaint.format(asked=asked)}")


@pytest.mark.parametrize("bad", ['{"answer": "no"', "", "{'answer': 'no'}"])
def test_names_the_line_that_is_not_json(tmp_path: Path, bad: str) -> None:
    asked = write_json_lines(tmp_path / "q.json", *GOOD_QUESTIONS)
    answered = tmp_path / "a.jsonl"
    answered.write_text(json.dumps(GOOD_ANSWERS[0]) + "\n" + bad + "\n", encoding="utf-8")
    with pytest.raises(UserError) as raised:
        pope_score.score(asked, answered)
    assert str(raised.value).startswith(f"{answered}: line 2: not JSON (")


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"q.json: no such file"):
        pope_score.score(tmp_path / "q.json", tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        pope_score.score(tmp_path, tmp_path / "a.jsonl")
