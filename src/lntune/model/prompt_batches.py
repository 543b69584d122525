"""Which prompts are answered together: those of one length, or those that share an image with others.

A prompt's *prefix* is all of it up to its image. Questions about one picture have it in common, and it is nearly all
of a prompt: 256 of some 300 positions in LLaVA.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lntune.model.encode import IMAGE_ID


class Prompt(NamedTuple):
    """Token ids, with one IMAGE_ID where the image goes, and the image's index: None for text alone."""

    ids: list[int]
    image: int | None

    def prefix(self) -> tuple[int, ...]:
        """Ids up to and with the image; none for text alone."""
        return () if self.image is None else tuple(self.ids[: self.ids.index(IMAGE_ID) + 1])

    def rest(self) -> list[int]:
        """Ids behind the image, or all for text alone."""
        return self.ids[len(self.prefix()) :]


class Batch(NamedTuple):
    """Indices of prompts that are answered together, and whether prefixes are read once for several of them.

    Without sharing the prompts are of one length, all with or all without image. With it their prefixes are of one
    length and their rests need not be; prompts of one prefix stand side by side.
    """

    indices: list[int]
    shared: bool


def batches(prompts: Sequence[Prompt], indices: Iterable[int], batch_size: int) -> Iterator[Batch]:
    """Yield batches of at most ``batch_size`` that hold each of these prompts once.

    A prefix is in one batch, or in as few as its prompts fill. Prompts that have theirs to themselves, or nothing
    behind it to tell them apart, are batched by length.
    """
    groups: dict[tuple[int | None, tuple[int, ...]], list[int]] = {}
    for index in indices:
        prompt = prompts[index]
        groups.setdefault((prompt.image, prompt.prefix()), []).append(index)
    shared, single = [], []
    for (image, prefix), group in groups.items():
        if image is None or len(group) == 1 or batch_size == 1 or not all(prompts[i].rest() for i in group):
            single += group
        else:
            shared += [(len(prefix), part) for part in _even_parts(group, batch_size)]
    for group in _equal_length(prompts, single, batch_size):
        yield Batch(group, shared=False)
    for group in _side_by_side(shared, batch_size):
        yield Batch(group, shared=True)


def _equal_length(prompts: Sequence[Prompt], indices: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    groups: dict[tuple[int, bool], list[int]] = {}
    for index in indices:
        groups.setdefault((len(prompts[index].ids), prompts[index].image is None), []).append(index)
    for _, group in sorted(groups.items()):
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _even_parts(group: list[int], batch_size: int) -> list[list[int]]:
    """As few parts as hold at most ``batch_size`` each, of sizes that differ by one at most."""
    count = -(-len(group) // batch_size)
    bounds = [len(group) * part // count for part in range(count + 1)]
    return [group[start:end] for start, end in pairwise(bounds)]


def _side_by_side(groups: Iterable[tuple[int, list[int]]], batch_size: int) -> Iterator[list[int]]:
    """Whole groups, in order, as many as fit; a batch's prefixes are of one length, which comes with each group."""
    batch: list[int] = []
    current = 0
    for length, group in sorted(groups, key=lambda found: found[0]):
        if batch and (length != current or len(batch) + len(group) > batch_size):
            yield batch
            batch = []
        current = length
        batch = batch + group
    if batch:
        yield batch
