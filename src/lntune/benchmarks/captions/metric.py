"""Whether an answer is a caption in form: what was asked for, whatever it says about the image.

The paper prints "-" where "the model cannot follow the required output format on captioning tasks" (Table 1) and does
not say how that is told. Here it is told by the share of a model's answers that are captions in form, so that it needs
no eyes and comes out the same every time (docs/decisions.md).

Caption scores (CIDEr, BLEU, ROUGE-L) from COCO's caption and result formats, those of pycocoevalcap's classes.

CIDEr's term weights come from the images that are scored: scores of a subset and of the full set do not
compare, and a single image always scores 0.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from lntune.benchmarks.captions.ngrams import Captions, bleu, cider, rouge_l
from lntune.benchmarks.captions.references import Image, ImageId, read_answers, read_references
from lntune.benchmarks.captions.words import all_captions, by_image, tokenize
from lntune.benchmarks.official_files import check_same_ids

_YES_NO = frozenset({"yes", "no"})


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


_LONGEST_NGRAM = 4


def score(references_path: Path, answers_path: Path) -> dict[str, float]:
    """``CIDEr``, ``BLEU_1`` to ``BLEU_4`` and ``ROUGE_L`` over all images, x100."""
    return score_and_marks(references_path, answers_path)[0]


def marks(references_path: Path, answers_path: Path) -> dict[ImageId, dict[str, float]]:
    """``CIDEr`` and ``ROUGE_L`` of each image, x100, by image id; the overall scores are their means."""
    return score_and_marks(references_path, answers_path)[1]


def score_and_marks(
    references_path: Path, answers_path: Path
) -> tuple[dict[str, float], dict[ImageId, dict[str, float]]]:
    """What :func:`score` and :func:`marks` give, for the cost of one."""
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
