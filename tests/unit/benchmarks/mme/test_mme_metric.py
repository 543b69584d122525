"""MME's score: the official reading of odd responses, scores by hand, and the refusal of bad files."""

from pathlib import Path

import pytest

from lntune.benchmarks.mme import score as mme_score
from lntune.benchmarks.mme.score import Line
from lntune.errors import UserError

# What eval_tool's own parser returned for these responses.
READINGS = [
    ("yes", "yes"),
    ("NO", "no"),
    ("Yes.", "yes"),
    ("no, it is", "no"),
    ("not sure", "no"),
    ("none", "no"),
    ("know", "no"),
    ("snow", "no"),
    ("unknown", "other"),
    ("eyes", "yes"),
    ("yesno", "yes"),
    ("noyes", "no"),
    ("The answer is yes", "other"),
    ("maybe no", "other"),
    ("y", "other"),
    ("n", "other"),
    ("**Yes**", "other"),
    ("**No**", "no"),
    (" yes", "yes"),
    ("  yes", "other"),
    ("  no", "no"),
    ("   no", "other"),
    ("", "other"),
]


@pytest.mark.parametrize(("response", "reading"), READINGS)
def test_reads_a_response_as_the_official_tool_does(response: str, reading: str) -> None:
    assert mme_score.parse_response(response) == reading


def write(path: Path, *rows: tuple[str, str]) -> None:
    """Rows of answer and response, two to an image."""
    lines = [f"i{number // 2}.png\tIs it?\t{said[0]}\t{said[1]}\n" for number, said in enumerate(rows)]
    path.write_text("".join(lines), encoding="utf-8")


def test_score_by_hand(tmp_path: Path) -> None:
    # Right: both of the first image, the second of the second, none of the third, which is "other" and wrong.
    rows = [("Yes", "yes"), ("No", "know"), ("Yes", "The answer is yes"), ("No", "No.")]
    write(tmp_path / "count.txt", *rows, ("no", "eyes"), ("YES", ""))
    write(tmp_path / "OCR.txt", ("Yes", "Yes"), ("No", "No"))
    write(tmp_path / "code_reasoning.txt", ("Yes", "no"), ("No", "no"))
    assert mme_score.score_folder(tmp_path, ["OCR", "code_reasoning", "count"]) == {
        "perception": 283.3333333333333,
        "cognition": 50.0,
        "subtasks": {
            "count": {"acc": 50.0, "acc_plus": 33.33333333333333, "score": 83.33333333333333},
            "OCR": {"acc": 100.0, "acc_plus": 100.0, "score": 200.0},
            "code_reasoning": {"acc": 50.0, "acc_plus": 0.0, "score": 50.0},
        },
    }
    assert mme_score.right_answers(tmp_path, ["count"]) == {"count": [True, True, False, True, False, False]}


def test_all_right_gives_the_highest_scores(tmp_path: Path) -> None:
    for name in mme_score.ALL:
        write(tmp_path / f"{name}.txt", ("Yes", "Yes"), ("No", "No"))
    result = mme_score.score_folder(tmp_path)
    assert (result["perception"], result["cognition"]) == (2000.0, 800.0)
    assert len(mme_score.PERCEPTION) == 10 and len(mme_score.COGNITION) == 4


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "posters.txt"
    lines = [Line("1.jpg", "Is it?", "Yes", "yes\tor\r\nno\u2028"), Line("1.jpg", "Is it not?", "No", "")]
    mme_score.write_subtask(path, lines)
    assert path.read_bytes() == "1.jpg\tIs it?\tYes\tyes or  no\u2028\n1.jpg\tIs it not?\tNo\t\n".encode()
    assert mme_score.read_subtask(path) == [lines[0]._replace(response="yes or  no\u2028"), lines[1]]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "color.txt"
    path.write_bytes(b"a\tq\tYes\tyes\r\na\tq\tNo\tno\r\n")
    assert [line.response for line in mme_score.read_subtask(path)] == ["yes", "no"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no questions"),
        (b"a\tq\tYes\tyes\n", "1 lines; the number must be even"),
        (b"a\tq\tYes\tyes\na\tq\tNo\n", "line 2: 3 columns instead of 4"),
        (b"a\tq\tYes\tyes\na\tq\tNo\tno\tno\n", "line 2: 5 columns instead of 4"),
        (b"a\tq\tYes\tyes\n\n", "line 2: 1 columns instead of 4"),
        (b"a\tq\tYes\tyes\na\tq\tMaybe\tno\n", "line 2: the answer is 'Maybe', neither Yes nor No"),
        (b"a\tq\tYes\tyes\nb\tq\tNo\tno\n", "line 2: 'b' behind 'a'; put an image's in a row"),
        (b"a\tq\tYes\tyes\na\tq\tNo\tno\n" * 2, "image 'a' appears twice; remove one"),
        (b"a\tq\tYes\t\xff\n", "not UTF-8 text at byte 8"),
    ],
)
def test_refuses_a_malformed_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "count.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        mme_score.score_folder(tmp_path, ["count"])
    assert str(raised.value).startswith(f"{path}: {complaint}")


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"existence.txt: no such file"):
        mme_score.score_folder(tmp_path)
    with pytest.raises(UserError, match=r"MME has no subtask 'ocr'; its subtasks are existence, "):
        mme_score.score_folder(tmp_path, ["ocr"])
    with pytest.raises(UserError, match=r"nowhere: no folder"):
        mme_score.score_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no MME subtask is named"):
        mme_score.score_folder(tmp_path, [])
