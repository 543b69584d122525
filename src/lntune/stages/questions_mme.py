"""questions-mme: MME's subtasks, two yes/no questions a picture."""

import shutil
from pathlib import Path

from pydantic import Field

from lntune.benchmarks.official_files import read_lines
from lntune.config.base import Frozen
from lntune.data.questions import Question, write_questions
from lntune.errors import UserError
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ()


class Settings(Frozen):
    """The subtasks that are asked; the protocol chooses them."""

    subtasks: tuple[str, ...] = Field(strict=False)


Execution = NoExecution


def read_subtask(path: Path) -> list[list[str]]:
    """Image, question and right answer of each line, two lines an image; UserError names the line that is not so."""
    rows = [line.split("\t") for line in read_lines(path)]
    for number, row in enumerate(rows, 1):
        if len(row) != 3:
            raise UserError(f"{path}: line {number} has {len(row)} columns, not 3 (image, question, answer)")
        if row[2].lower() not in ("yes", "no"):
            raise UserError(f"{path}: line {number}: the answer is {row[2]!r}, neither Yes nor No")
    if not rows or len(rows) % 2:
        raise UserError(f"{path}: {len(rows)} lines; MME has two questions to an image, and an image at least")
    return rows


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write questions.jsonl and set.json, and copy the official files (image, question, answer)."""
    questions = []
    for subtask in job.settings.subtasks:
        path = job.folder("raw") / f"{subtask}.txt"
        for number, (image, question, _) in enumerate(read_subtask(path)):
            questions.append(Question(f"{subtask}/{number}", f"{subtask}/{image}", question))
        shutil.copyfile(path, job.out / path.name)
    return {"questions": write_questions(job.out, "MME_images.zip", questions)}
