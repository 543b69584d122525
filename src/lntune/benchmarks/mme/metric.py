"""MME's score, as its official eval_tool (release of 2023-07-01) computes it from one ``<subtask>.txt`` each.

A line is ``image<TAB>question<TAB>answer<TAB>response``; two lines in a row belong to one image, by their
order and not by the image's name.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lntune.benchmarks.official_files import read_lines
from lntune.errors import UserError

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
ALL = PERCEPTION + COGNITION

# What ends a line or a column for the readers of the official format.
_SEPARATORS = str.maketrans("\t\n\r", "   ")


class Line(NamedTuple):
    """One question of a subtask's file: the answer is the right one, the response the model's free text."""

    image: str
    question: str
    answer: str
    response: str


def parse_response(response: str) -> Literal["yes", "no", "other"]:
    """The official reading of a response: only its first four characters count, lower-cased and not stripped.

    So ``not sure`` and ``know`` are no, ``eyes`` is yes, ``The answer is yes`` and ``y`` are other.
    """
    start = response.lower()[:4]
    if "yes" in start:
        return "yes"
    return "no" if "no" in start else "other"


def read_subtask(path: Path) -> list[Line]:
    """The lines of one official file.

    Raises UserError for a missing or empty file, a line without four columns, an answer other than yes and no
    (in any case), and an odd number of lines.
    """
    lines = [_parse_line(text, path, number) for number, text in enumerate(read_lines(path), 1)]
    if not lines:
        raise UserError(f"{path}: holds no questions")
    if len(lines) % 2:
        raise UserError(f"{path}: {len(lines)} lines; the number must be even, two questions to an image")
    return lines


def write_subtask(path: Path, lines: Iterable[Line]) -> None:
    """Writes one official file; tabs and line ends inside a response become spaces: they would end it."""
    path.write_text("".join(f"{_format_line(line)}\n" for line in lines), encoding="utf-8", newline="\n")


def score_folder(folder: Path, subtasks: Sequence[str] = ALL) -> dict[str, object]:
    """``perception``, ``cognition`` and ``subtasks`` of a folder of official files.

    The first two are sums over those of the subtasks asked for that are theirs: of all, at most 2000 and 800.
    ``subtasks`` maps a name to ``acc`` (share of questions, percent), ``acc_plus`` (share of images with both
    questions right, percent) and ``score``, their sum. A response that is neither yes nor no is wrong.
    """
    scores = {name: score_subtask(answered) for name, answered in marks(folder, subtasks).items()}
    return {
        "perception": sum((scores[name]["score"] for name in PERCEPTION if name in scores), 0.0),
        "cognition": sum((scores[name]["score"] for name in COGNITION if name in scores), 0.0),
        "subtasks": scores,
    }


def marks(folder: Path, subtasks: Sequence[str] = ALL) -> dict[str, list[bool]]:
    """Whether each question was answered rightly, by subtask, in the order of the file."""
    if not subtasks:
        raise UserError(f"no MME subtask is named; its subtasks are {', '.join(ALL)}")
    for name in subtasks:
        if name not in ALL:
            raise UserError(f"MME has no subtask {name!r}; its subtasks are {', '.join(ALL)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; MME's answers are one <subtask>.txt each in a folder")
    return {name: [is_right(line) for line in read_subtask(folder / f"{name}.txt")] for name in ALL if name in subtasks}


def is_right(line: Line) -> bool:
    """Whether the response, read officially, is the answer."""
    return parse_response(line.response) == line.answer.lower()


def score_subtask(right: Sequence[bool]) -> dict[str, float]:
    """``acc``, ``acc_plus`` and ``score`` from the marks of a subtask's questions, in the file's order."""
    both = [first and second for first, second in zip(right[::2], right[1::2], strict=True)]
    # Divided before the factor 100, as the official tool does: the other order differs in the last bit.
    acc = sum(right) / len(right) * 100
    acc_plus = sum(both) / len(both) * 100
    return {"acc": acc, "acc_plus": acc_plus, "score": acc + acc_plus}


def _parse_line(text: str, path: Path, number: int) -> Line:
    columns = text.split("\t")
    if len(columns) != 4:
        raise UserError(
            f"{path}: line {number}: {len(columns)} columns instead of 4 (image, question, answer, response, "
            "with a tab between them and none inside)"
        )
    line = Line(*columns)
    if line.answer.lower() not in ("yes", "no"):
        raise UserError(f"{path}: line {number}: the answer is {line.answer!r}, neither Yes nor No")
    return line


def _format_line(line: Line) -> str:
    for column in line[:3]:
        assert column == column.translate(_SEPARATORS), f"a tab or line end in MME's own column {column!r}"
    return "\t".join((*line[:3], line.response.translate(_SEPARATORS)))
