"""CIDEr (CIDEr-D x 10), as pycocoevalcap's CiderScorer computes it, for all images at once.

Sums are taken in another order than there, so figures may differ in the last of a double's 16 digits.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lntune.benchmarks.ngrams import Captions, Counts

Floats = NDArray[np.float64]

_SIGMA = 6.0
_SCALE = 10.0


def cider(captions: Captions, counts: Sequence[Counts]) -> Floats:
    """Each image's CIDEr, (images,); the set's is their mean.

    Args:
        captions: the answers and references.
        counts: their n-grams of each length that counts: of one word to four.

    Returns:
        Zeros where no reference has a word, on which the official code stops. A single image always has 0.
    """
    images = len(captions.answers)
    closeness = _closeness(captions)
    by_length = np.zeros((len(counts), images))
    for similarities, of_length in zip(by_length, counts, strict=True):
        found = _cosines(captions, of_length, np.log(float(images))) * closeness
        similarities += np.bincount(captions.images, found, images)
    references = np.bincount(captions.images, minlength=images) - 1
    scores: Floats = by_length.mean(axis=0) / references * _SCALE
    return scores


def _cosines(captions: Captions, counts: Counts, log_images: float) -> Floats:
    """The clipped cosine of each reference and its image's answer, (captions,); 0 in the places of the answers."""
    rarity = log_images - np.log(np.maximum(1.0, counts.images_with))
    weights = rarity[counts.ngrams]
    vectors = counts.times * weights
    answers = counts.of_runs(counts.answered) * weights
    products = np.where(counts.is_answer, 0.0, np.minimum(answers, vectors) * vectors)
    number = len(captions.lengths)
    norms = np.sqrt(np.bincount(counts.captions, vectors**2, number))
    both = norms * norms[captions.answers][captions.images]
    return np.bincount(counts.captions, products, number) / np.where(both > 0, both, 1.0)


def _closeness(captions: Captions) -> Floats:
    """How alike in length each caption is to its image's answer, (captions,): 1 if as long.

    The official code adds up the times of the n-grams of two words where it means to count words.
    """
    lengths = np.maximum(captions.lengths - 1, 0)
    difference = (lengths[captions.answers][captions.images] - lengths).astype(np.float64)
    closeness: Floats = np.exp(-(difference**2) / (2 * _SIGMA**2))
    return closeness
