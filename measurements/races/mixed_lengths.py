"""Training samples of 20 to 200 tokens, and the steps of an epoch that a round takes."""

import random
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from lntune.config import Frozen
from lntune.model.encode import IGNORE, EncodedSample

SHORTEST, LONGEST = 20, 200
FIRST_WORD = 3
"""Ids before it are special in both vocabularies."""


class Race(Frozen):
    """What both sides of a comparison are told: the LLM's folder, the samples, and how they train on them.

    ``pool`` samples are an epoch; a round takes ``steps`` of its optimiser steps, ``global_batch`` samples each.
    """

    llm: Path = Field(strict=False)
    vocabulary: int
    pool: int
    global_batch: int
    steps: int
    learning_rate: float
    lora_rank: int
    seed: int = 0


def draw(race: Race) -> list[EncodedSample]:
    """Text-only samples of random words, lengths drawn evenly; the last quarter to three quarters are the answer."""
    rng = random.Random(race.seed)
    samples = []
    for _ in range(race.pool):
        length = rng.randint(SHORTEST, LONGEST)
        ids = rng.choices(range(FIRST_WORD, race.vocabulary), k=length)
        prompt = max(1, round(length * rng.uniform(0.25, 0.75)))
        samples.append(EncodedSample(ids, [IGNORE] * prompt + ids[prompt:], None))
    return samples


def of_all_lengths(batches: Sequence[Sequence[int]], lengths: Sequence[int], steps: int) -> list[Sequence[int]]:
    """Some of an epoch's batches, at equal distances in the order of their numbers of tokens."""
    ordered = sorted(batches, key=lambda batch: sum(lengths[index] for index in batch))
    return [ordered[int((number + 0.5) * len(ordered) / steps)] for number in range(steps)]


class Told(Frozen):
    """What a round was: its seconds, its tokens, and the positions computed where all are padded to the longest."""

    seconds: float
    tokens: int
    padded: int

    @classmethod
    def of(cls, seconds: float, batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> "Told":
        """A round of these batches of samples."""
        of_batches = [[lengths[index] for index in batch] for batch in batches]
        padded = sum(max(batch) * len(batch) for batch in of_batches)
        return cls(seconds=seconds, tokens=sum(map(sum, of_batches)), padded=padded)
