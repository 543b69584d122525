"""score-pope: POPE's accuracy and its companions, for each of the three files."""

import json

from lntune.benchmarks import pope_score
from lntune.benchmarks.intervals import interval
from lntune.benchmarks.pope_questions import KINDS
from lntune.config.base import Frozen
from lntune.data.questions import read_answers, read_questions
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)


class Settings(Frozen):
    """Nothing to choose."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write an official answer file for each kind, scores.json and marks.json."""
    answers = read_answers(job.folder("answers"))
    _, questions = read_questions(job.folder("questions"))
    scores, marks, intervals = {}, {}, {}
    for kind in KINDS:
        official = job.folder("questions") / f"coco_pope_{kind}.json"
        said = job.out / f"coco_pope_{kind}_answers.jsonl"
        mine = [question for question in questions if question.id.startswith(f"{kind}/")]
        pope_score.write_answers(said, ((question.text, answers[question.id]) for question in mine))
        scores[kind] = pope_score.score(official, said)
        marks[kind] = {str(id): right for id, right in pope_score.marks(official, said).items()}
        intervals[kind] = interval([100.0 * right for right in marks[kind].values()])
    together = [100.0 * right for by_id in marks.values() for right in by_id.values()]
    mean = sum(together) / len(together)
    document = {**scores, "mean_accuracy": mean, "intervals": {**intervals, "mean_accuracy": interval(together)}}
    (job.out / "scores.json").write_text(json.dumps(document, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps(marks) + "\n")
    return {"mean_accuracy": mean}
