"""How many optimiser steps a run takes, and the learning rate at each: linear warmup, then half a cosine."""

import math

from lntune.config.training import TrainingSettings


def total_steps(samples: int, settings: TrainingSettings) -> int:
    """Return the number of optimiser steps for a data set of this many samples.

    The last, smaller batch of an epoch counts as a step, and a fraction of an epoch is rounded up.
    """
    steps = math.ceil(settings.epochs * math.ceil(samples / settings.global_batch))
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def learning_rate(step: int, total: int, settings: TrainingSettings) -> float:
    """Return the rate for the step with this index (from 0) out of ``total``.

    The rule is that of LLaVA's runs (Hugging Face's cosine schedule): ceil(ratio x total) warmup steps, of
    which the first has rate 0, and the cosine would reach 0 one step after the last.
    """
    assert 0 <= step < total
    warmup = math.ceil(settings.warmup_ratio * total)
    if step < warmup:
        return settings.learning_rate * step / warmup
    progress = (step - warmup) / (total - warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
