"""The schedule of a run: which samples make up each optimiser step, how many steps there are, and the learning rates.

A seeded order, with a batch's samples of similar length, so that little is padding. What a global batch is made of
follows from the seed, the epoch, the global batch size and the samples' lengths alone, so another split into micro
batches trains on the same steps. Learning rates rise linearly and fall as half a cosine.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import TypeVar

from lntune.config.training import TrainingSettings

Item = TypeVar("Item")

# Samples are sorted by length within windows of this many global batches: lengths meet, order stays random.
BATCHES_PER_WINDOW = 32


def total_steps(samples: int, settings: TrainingSettings) -> int:
    """The number of optimiser steps; an epoch's last, smaller batch is one, and part of an epoch is rounded up."""
    steps = math.ceil(settings.epochs * math.ceil(samples / settings.global_batch))
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def learning_rate(step: int, total: int, settings: TrainingSettings) -> float:
    """Return the rate for the step with this index (from 0) out of ``total``.

    The rule is that of LLaVA's runs (Hugging Face's cosine schedule): ceil(ratio x total) warmup steps, of which the
    first has rate 0, and the cosine would reach 0 one step after the last.
    """
    assert 0 <= step < total
    warmup = math.ceil(settings.warmup_ratio * total)
    if step < warmup:
        return settings.learning_rate * step / warmup
    progress = (step - warmup) / (total - warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def epoch_batches(lengths: Sequence[int], global_batch: int, seed: int, epoch: int) -> list[list[int]]:
    """Return one epoch as global batches of sample indices; each index occurs once.

    When the samples do not divide evenly, one batch, drawn without regard to length, is smaller. Within a batch the
    longest sample comes first, so that micro batches are of similar lengths too, and memory peaks early.
    """
    rng = random.Random(f"{seed}:{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    whole = len(order) - len(order) % global_batch
    batches = [order[whole:]] if whole < len(order) else []
    window = BATCHES_PER_WINDOW * global_batch
    for start in range(0, whole, window):
        similar = sorted(order[start : min(start + window, whole)], key=lambda index: lengths[index])
        batches += [similar[cut : cut + global_batch] for cut in range(0, len(similar), global_batch)]
    rng.shuffle(batches)
    return [sorted(batch, key=lambda index: (-lengths[index], index)) for batch in batches]


def step_batches(lengths: Sequence[int], global_batch: int, seed: int, start: int, stop: int) -> Iterator[list[int]]:
    """The global batches of steps ``start`` to ``stop`` (exclusive), counted from 0 across epochs."""
    first, skipped = divmod(start, math.ceil(len(lengths) / global_batch))
    epochs = (epoch_batches(lengths, global_batch, seed, epoch) for epoch in count(first))
    return islice(chain.from_iterable(epochs), skipped, skipped + stop - start)


def rank_share(batch: Sequence[Item], micro_batch: int, rank: int = 0, ranks: int = 1) -> list[Sequence[Item]]:
    """Return the micro batches of one rank's share of a global batch: as many for every rank, the last may be empty.

    Samples are dealt out like cards, so that all ranks have samples of similar lengths.
    """
    passes = -(-len(batch) // (ranks * micro_batch))
    mine = batch[rank::ranks]
    return [mine[start : start + micro_batch] for start in range(0, passes * micro_batch, micro_batch)]
