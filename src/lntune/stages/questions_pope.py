"""questions-pope: POPE's three files of yes/no questions."""

import shutil
from pathlib import Path

from lntune.benchmarks.pope_questions import KINDS, read_questions
from lntune.config.base import Frozen
from lntune.data.questions import Question, write_questions
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ()


class Settings(Frozen):
    """Nothing to choose: all three files, whole."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write questions.jsonl and set.json, and copy the official files."""
    questions = []
    for kind in KINDS:
        path = job.folder("raw") / f"coco_pope_{kind}.json"
        for one in read_questions(path):
            questions.append(Question(f"{kind}/{one.question_id}", f"val2014/{Path(one.image).name}", one.text))
        shutil.copyfile(path, job.out / path.name)
    return {"questions": write_questions(job.out, "val2014.zip", questions)}
