"""How often the n-grams of captions are in each caption, for all captions of a set at once.

    captions = Captions.of([["a dog runs", "a dog"], ["two cats"]], ["a dog", "a cat"])
    for counts in captions.ngrams(4):       # n-grams of one word, of two, three and four
        counts.times, counts.images_with

An n-gram is known by a number: that of the n-gram without its last word, and the last word, ranked among all that
there are. One sort brings the rows of an image's n-gram together. So the work is that of a few sorts of all words.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """The n-grams of one length: a row for every n-gram of every caption, sorted by image, n-gram and caption.

    The rows of one n-gram in one image are a *run*. If the image's answer has the n-gram, its row is the first.

    Attributes:
        captions: each row's caption, (rows,).
        ngrams: each row's n-gram, (rows,).
        times: how often the caption has it, (rows,).
        is_answer: whether the caption is an answer, (rows,).
        starts: where the runs begin, (runs,).
        total: how many n-grams there are.
    """

    captions: Integers
    ngrams: Integers
    times: Integers
    is_answer: NDArray[np.bool_]
    starts: Integers
    total: int

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

    def of_runs(self, values: Integers) -> Integers:
        """A value for each run as a value for each row."""
        return np.repeat(values, np.diff(self.starts, append=len(self.times)))


@dataclass(frozen=True)
class Captions:
    """Captions in numbered words: of each image its answer and then its references, image after image.

    Attributes:
        words: the number of each word, (words,).
        lengths: each caption's number of words, (captions,).
        images: the place of each caption's image, (captions,).
        places: each caption's place in its image, 0 for the answer, (captions,).
    """

    words: Integers
    lengths: Integers
    images: Integers
    places: Integers

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
