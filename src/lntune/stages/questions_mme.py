"""questions-mme: MME's subtasks, two yes/no questions a picture."""

import shutil

from pydantic import Field

from lntune.config.base import Frozen
from lntune.data.questions import Question, write_questions
from lntune.errors import UserError
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ()


class Settings(Frozen):
    """The subtasks that are asked; the protocol chooses them."""

    subtasks: tuple[str, ...] = Field(strict=False)


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write questions.jsonl and set.json, and copy the official files (image, question, answer)."""
    questions = []
    for subtask in job.settings.subtasks:
        path = job.folder("raw") / f"{subtask}.txt"
        if not path.is_file():
            raise UserError(f"{path}: missing; MME has one file for each subtask")
        for number, line in enumerate(path.read_text().splitlines()):
            fields = line.split("\t")
            if len(fields) != 3:
                raise UserError(f"{path}: line {number + 1} has {len(fields)} fields, not image, question and answer")
            questions.append(Question(f"{subtask}/{number}", f"{subtask}/{fields[0]}", fields[1]))
        shutil.copyfile(path, job.out / path.name)
    return {"questions": write_questions(job.out, "MME_images.zip", questions)}
