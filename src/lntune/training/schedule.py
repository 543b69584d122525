"""The schedule of a run: which samples make up each optimiser step, how many steps there are, and the learning rates.

A seeded order, with a batch's samples of similar length, so that little is padding. What a global batch is made of
follows from the seed, the epoch, the global batch size and the samples' lengths alone, so another split into passes
trains on the same steps. Learning rates rise linearly and fall as half a cosine.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice, zip_longest
from typing import Generic, TypeVar

from lntune.config.training import Passes, TrainingSettings

Item = TypeVar("Item")

# Samples are sorted by length within windows of this many global batches: lengths meet, order stays random.
BATCHES_PER_WINDOW = 32


def total_steps(samples: int, settings: TrainingSettings) -> int:
    """The number of optimiser steps; an epoch's last, smaller batch is one, and part of an epoch is rounded up."""
    steps = math.ceil(settings.epochs * math.ceil(samples / settings.global_batch))
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def steps_until(samples: int, settings: TrainingSettings, share: float | None) -> int:
    """The steps that are done once this share of all is: the nearest whole number, at least one; all for None."""
    total = total_steps(samples, settings)
    return total if share is None else max(1, round(share * total))


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
    longest sample comes first, so that passes are of similar lengths too, and memory peaks early.
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


@dataclass(frozen=True)
class Pass(Generic[Item]):
    """The samples of one forward and backward pass of a rank, perhaps none, and whether activations are recomputed."""

    samples: Sequence[Item]
    recompute: bool


def rank_passes(
    batch: Sequence[Item], given: Passes, positions: Callable[[Item], int], rank: int = 0, ranks: int = 1
) -> list[Pass[Item]]:
    """Return the passes of one rank's share of a global batch: as many for every rank, the last ones may be empty.

    ``positions`` counts those of one sample. Samples are dealt out like cards, so that all ranks have similar lengths.
    All ranks recompute activations in the same passes: ZeRO-3 gathers weights for it, from all of them.
    """
    shares = [_packed(batch[one::ranks], given, positions) for one in range(ranks)]
    limit = math.inf if given.recompute_above is None else given.recompute_above
    return [
        Pass(row[rank], any(_padded(samples, positions) > limit for samples in row))
        for row in zip_longest(*shares, fillvalue=[])
    ]


def _packed(samples: Sequence[Item], given: Passes, positions: Callable[[Item], int]) -> list[list[Item]]:
    """The samples in order, as many in each group as one pass may have."""
    packed: list[list[Item]] = []
    for sample in samples:
        group = [*packed[-1], sample] if packed else []
        if not 1 < len(group) <= given.micro_batch or _padded(group, positions) > (given.positions or math.inf):
            packed.append([sample])
        else:
            packed[-1] = group
    return packed


def _padded(samples: Sequence[Item], positions: Callable[[Item], int]) -> int:
    return len(samples) * max(map(positions, samples), default=0)
