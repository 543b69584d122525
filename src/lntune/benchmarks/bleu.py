"""BLEU of a whole set, as pycocoevalcap's BleuScorer computes it: from whole numbers, so equal to the last bit."""

import math
from collections.abc import Sequence

import numpy as np

from lntune.benchmarks.ngrams import Captions, Counts

# What the official code adds so that nothing is divided by zero.
_SMALL = 1e-9
_TINY = 1e-15


def bleu(captions: Captions, counts: Sequence[Counts]) -> list[float]:
    """``BLEU_1``, ``BLEU_2``, ...: one for each length of n-grams in ``counts``, from one word on."""
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
