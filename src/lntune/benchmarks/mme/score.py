"""score-mme: MME's perception and cognition, as its official eval_tool (release of 2023-07-01) computes them.

It reads one ``<subtask>.txt`` each. A line is ``image<TAB>question<TAB>answer<TAB>response``. The tool takes two
lines in a row for one image's, by their order; where they are not, the file is refused.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from lntune.benchmarks.answer_files import answers_of
from lntune.benchmarks.intervals import over_items, strata_of, write_score
from lntune.benchmarks.mme.release import ALL, COGNITION, PERCEPTION
from lntune.benchmarks.official_files import check_same_ids, read_lines, unique
from lntune.config import Frozen
from lntune.errors import UserError
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)

# What ends a line or a column for the readers of the official format.
_SEPARATORS = str.maketrans("\t\n\r", "   ")


class Settings(Frozen):
    """The subtasks that were asked."""

    subtasks: tuple[str, ...] = Field(strict=False)


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write an official file for each subtask, scores.json and per_item_scores.json."""
    answers = answers_of(job, lambda folder: _official_answers(folder, job.folder("questions"), job.settings.subtasks))
    for subtask in job.settings.subtasks:
        lines = []
        for number, asked in enumerate(read_lines(job.folder("questions") / f"{subtask}.txt")):
            image, question, answer = asked.split("\t")
            lines.append(Line(image, question, answer, answers[f"{subtask}/{number}"]))
        write_subtask(job.out / f"{subtask}.txt", lines)
    scores: dict[str, Any] = score_folder(job.out, job.settings.subtasks)
    right = right_answers(job.out, job.settings.subtasks)
    parts = {
        part: {name: of_images(right[name]) for name in names if name in right}
        for part, names in (("perception", PERCEPTION), ("cognition", COGNITION))
    }
    intervals = {part: over_items([strata]) for part, strata in strata_of(parts).items()}
    questions = {f"{name}/{number}": one for name, its in right.items() for number, one in enumerate(its)}
    write_score(job.out, scores | {"intervals": intervals}, parts, questions)
    return {"perception": scores["perception"], "cognition": scores["cognition"]}


def of_images(right: Sequence[bool]) -> dict[str, list[float]]:
    """Each image's score, of which acc + acc_plus is the mean: 50 for each of its two questions, 100 more for both."""
    pairs = zip(right[::2], right[1::2], strict=True)
    return {str(image): [50.0 * (a + b) + 100.0 * (a and b)] for image, (a, b) in enumerate(pairs)}


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
    """The lines of one official file; UserError for a line that is none, for no line and an odd number of lines."""
    lines = []
    for number, text in enumerate(read_lines(path), 1):
        columns = text.split("\t")
        if len(columns) != 4:
            wanted = "4 (image, question, answer, response, with a tab between them and none inside)"
            raise UserError(f"{path}: line {number}: {len(columns)} columns instead of {wanted}")
        line = Line(*columns)
        if line.answer.lower() not in ("yes", "no"):
            raise UserError(f"{path}: line {number}: the answer is {line.answer!r}, neither Yes nor No")
        lines.append(line)
    if not lines:
        raise UserError(f"{path}: holds no questions; get the file again")
    if len(lines) % 2:
        raise UserError(f"{path}: {len(lines)} lines; the number must be even, two questions to an image")
    for number, (first, second) in enumerate(zip(lines[::2], lines[1::2], strict=True), 1):
        if first.image != second.image:
            raise UserError(
                f"{path}: line {2 * number}: {second.image!r} behind {first.image!r}; put an image's in a row"
            )
    unique(((one.image, None) for one in lines[::2]), path, "image")
    return lines


def write_subtask(path: Path, lines: Iterable[Line]) -> None:
    """Writes one official file; tabs and line ends inside a response become spaces: they would end it."""
    path.write_text("".join(f"{_format_line(line)}\n" for line in lines), encoding="utf-8", newline="\n")


def _official_answers(folder: Path, questions: Path, subtasks: Sequence[str]) -> dict[str, str]:
    """Answers by question id from official files, in whatever order they have the questions of ``questions``."""
    found = dict[str, str]()
    for subtask in subtasks:
        asked, path = questions / f"{subtask}.txt", folder / f"{subtask}.txt"
        wanted = {line: f"{subtask}/{number}" for number, line in enumerate(read_lines(asked))}
        given = unique((("\t".join(one[:3]), one.response) for one in read_subtask(path)), path, "question")
        check_same_ids(wanted, given, "question", asked=asked, path=path)
        found |= {id: given[line] for line, id in wanted.items()}
    return found


def score(folder: Path, subtasks: str = ",".join(ALL)) -> dict[str, object]:
    """:func:`score_folder` of subtasks with commas between them."""
    return score_folder(folder, [name.strip() for name in subtasks.split(",") if name.strip()])


def score_folder(folder: Path, subtasks: Sequence[str] = ALL) -> dict[str, object]:
    """``perception``, ``cognition`` and ``subtasks`` of a folder of official files.

    The first two are sums over those of the subtasks asked for that are theirs: of all, at most 2000 and 800.
    ``subtasks`` maps a name to ``acc`` (share of questions, percent), ``acc_plus`` (share of images with both
    questions right, percent) and ``score``, their sum. A response that is neither yes nor no is wrong.
    """
    scores = {name: score_subtask(answered) for name, answered in right_answers(folder, subtasks).items()}
    return {
        "perception": sum((scores[name]["score"] for name in PERCEPTION if name in scores), 0.0),
        "cognition": sum((scores[name]["score"] for name in COGNITION if name in scores), 0.0),
        "subtasks": scores,
    }


def right_answers(folder: Path, subtasks: Sequence[str] = ALL) -> dict[str, list[bool]]:
    """Whether each question was answered rightly, as responses are read officially, by subtask and in order."""
    if not subtasks:
        raise UserError(f"no MME subtask is named; its subtasks are {', '.join(ALL)}")
    for name in subtasks:
        if name not in ALL:
            raise UserError(f"MME has no subtask {name!r}; its subtasks are {', '.join(ALL)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no folder; LLaVA's convert_answer_to_mme.py makes one, of a <subtask>.txt each")
    return {
        name: [parse_response(line.response) == line.answer.lower() for line in read_subtask(folder / f"{name}.txt")]
        for name in ALL
        if name in subtasks
    }


def score_subtask(right: Sequence[bool]) -> dict[str, float]:
    """``acc``, ``acc_plus`` and ``score`` from which questions of a subtask were answered rightly, in order."""
    both = [first and second for first, second in zip(right[::2], right[1::2], strict=True)]
    # Divided before the factor 100, as the official tool does: the other order differs in the last bit.
    acc = sum(right) / len(right) * 100
    acc_plus = sum(both) / len(both) * 100
    return {"acc": acc, "acc_plus": acc_plus, "score": acc + acc_plus}


def _format_line(line: Line) -> str:
    for column in line[:3]:
        assert column == column.translate(_SEPARATORS), f"a tab or line end in MME's own column {column!r}"
    return "\t".join((*line[:3], line.response.translate(_SEPARATORS)))
