"""Percentile bootstrap intervals: how far a score would move with other questions of the same kind."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Marks = NDArray[np.float64]

RESAMPLES = 2000


def interval(
    marks: Sequence[float] | Marks,
    statistic: Callable[[Marks], Marks] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The bootstrap interval of a score over items drawn with replacement.

    Args:
        marks: one row an item (question or image): (n,) or (n, k).
        statistic: maps resampled marks (resamples, n) or (resamples, n, k) to (resamples,); None: the mean.
        level: the interval's coverage.
        seed: of the resampling.
    """
    values = np.asarray(marks, dtype=np.float64)
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(len(values), size=(RESAMPLES, len(values)))]
    figures = drawn.mean(axis=1) if statistic is None else statistic(drawn)
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
