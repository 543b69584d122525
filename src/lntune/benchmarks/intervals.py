"""Percentile bootstrap intervals: how far a score would move with other questions of the same kind."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Marks = NDArray[np.float64]
Statistic = Callable[[Marks], Marks]
"""Maps resampled marks (resamples, n) or (resamples, n, k) to one figure each, (resamples,)."""

RESAMPLES = 2000
_DRAWN_AT_ONCE = 1 << 22


def interval(
    marks: Sequence[float] | Marks, statistic: Statistic | None = None, *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of a score over items drawn with replacement.

    Args:
        marks: one row an item (question or image): (n,) or (n, k).
        statistic: the score of a resample; None: the mean.
        level: the interval's coverage.
        seed: of the resampling.
    """
    return bounds(resampled(marks, statistic, seed=seed), level=level)


def resampled(marks: Sequence[float] | Marks, statistic: Statistic | None = None, *, seed: int = 0) -> Marks:
    """The score of each of RESAMPLES resamples, (RESAMPLES,); arguments as those of :func:`interval`.

    Scores of parts that are drawn apart may be added, resample by resample, for the interval of their sum.
    """
    values = np.asarray(marks, dtype=np.float64)
    rng = np.random.default_rng(seed)
    block = max(1, _DRAWN_AT_ONCE // values.size)
    figures = []
    for start in range(0, RESAMPLES, block):
        drawn = values[rng.integers(len(values), size=(min(block, RESAMPLES - start), len(values)))]
        figures.append(drawn.mean(axis=1) if statistic is None else statistic(drawn))
    return np.concatenate(figures)


def bounds(figures: Marks, *, level: float = 0.95) -> tuple[float, float]:
    """The middle ``level`` of resampled scores: its lower and its upper end."""
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
