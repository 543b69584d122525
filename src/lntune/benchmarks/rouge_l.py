"""ROUGE-L, as pycocoevalcap's Rouge computes it, equal to the last bit.

The longest common subsequence is found by one addition of whole numbers a word, in which a bit stands for a word of the
answer (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004).
"""

from collections.abc import Mapping, Sequence

_BETA = 1.2


def rouge_l(references: Sequence[str], answer: str) -> float:
    """The score of one answer, 0 to 1. Words are what stands between single spaces: an empty text is one empty word."""
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

    ``places`` holds each word of the text with its places: the bit of value 2^n is set if it is the n-th, from 0.
    """
    every = (1 << number) - 1
    unmatched = every
    for word in others:
        here = places.get(word)
        if here:
            matched = unmatched & here
            unmatched = (unmatched + matched) | (unmatched - matched)
    return number - (unmatched & every).bit_count()
