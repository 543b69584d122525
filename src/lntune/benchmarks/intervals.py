"""How sure a score is: bootstrap intervals over what was asked, alone or of two models, and t intervals over seeds.

    figure(strata)                        # what the table prints
    over_items([strata])                  # it with other images of the same kind
    difference([ours], [baseline])        # two models that were asked the same: a paired bootstrap
    over_seeds([61.2, 60.4, 62.9])        # another training run

docs/statistics.md says which interval speaks of what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi, sin, sqrt, tan
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from lntune.errors import UserError

Marks = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
_DRAWN_AT_ONCE = 1 << 18  # as much as a processor keeps at hand
_HALVINGS = 60


@dataclass(frozen=True)
class Stratum:
    """Items of one kind, which are drawn among themselves: one of MME's subtasks, or a whole benchmark.

    Its figure is the mean mark of a question, the sum of ``totals`` over the sum of ``counts``.

    Attributes:
        name: what its items have in common; unique in a figure.
        items: the id of each item, that is of what is drawn: an image.
        totals: the sum of the marks of each item's questions, in the figure's unit.
        counts: how many questions each item has.
    """

    name: str
    items: tuple[str, ...]
    totals: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, marks: Mapping[str, Sequence[float]]) -> "Stratum":
        """From each item's id to the marks of its questions; no item may be without a question."""
        totals = tuple(float(sum(found)) for found in marks.values())
        return cls(name, tuple(marks), totals, tuple(map(len, marks.values())))


@dataclass(frozen=True)
class Difference:
    """One model's figure minus another's, with the 95% interval of the difference."""

    value: float
    low: float
    high: float


def figure(strata: Sequence[Stratum]) -> float:
    """The sum over the strata of the mean mark in each; 0 without a stratum."""
    return sum((sum(one.totals) / sum(one.counts) for one in strata), 0.0)


def over_items(
    strata_by_seed: Sequence[Sequence[Stratum]], *, level: float = LEVEL, seed: int = 0
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a figure over its items, drawn with replacement within each stratum.

    With several training seeds an item's marks are averaged over them first: the interval is that of the mean of
    the seeds' figures, over other items, and says nothing of other seeds.

    Args:
        strata_by_seed: for each training seed the strata of the figure.
        level: the interval's coverage.
        seed: of the resampling. The same seed draws the same items for every model that was asked the same.

    Returns:
        The lower and the upper end; None without a stratum.

    Raises:
        UserError: the seeds were not asked the same.
    """
    strata = _mean(strata_by_seed)
    return _bounds(_resampled(strata, seed), level) if strata else None


def difference(
    ours: Sequence[Sequence[Stratum]],
    baseline: Sequence[Sequence[Stratum]],
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference | None:
    """One model's figure minus another's, with its paired bootstrap interval.

    Both models meet the same drawn items, so what makes an item hard for both cancels. Arguments as those of
    :func:`over_items`; the two models may have different numbers of training seeds.

    Returns:
        None without a stratum.

    Raises:
        UserError: the models were not asked the same.
    """
    strata = _combined([(_mean(ours), 1.0), (_mean(baseline), -1.0)])
    if not strata:
        return None
    return Difference(figure(strata), *_bounds(_resampled(strata, seed), level))


def over_seeds(figures: Sequence[float], *, level: float = LEVEL) -> tuple[float, float] | None:
    """Student's t interval of the mean of the figures of several training seeds; None with fewer than two.

    Where items do not matter, the interval of a difference of models is that of the differences seed by seed.
    """
    if len(figures) < 2:
        return None
    half = t_quantile(level, len(figures) - 1) * stdev(figures) / sqrt(len(figures))
    return fmean(figures) - half, fmean(figures) + half


def interval(marks: Sequence[float] | Marks, *, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """The bootstrap interval of the mean of marks, one an item; arguments as those of :func:`over_items`."""
    stratum = Stratum.of("", {str(number): [float(mark)] for number, mark in enumerate(marks)})
    return _bounds(_resampled([stratum], seed), level)


def t_quantile(level: float, freedom: int) -> float:
    """The t for which a t variable with ``freedom`` degrees of freedom lies in [-t, t] with probability ``level``."""
    low, high = 0.0, pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return sqrt(freedom) * tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """The probability of [-t, t], t = sqrt(freedom) tan(angle).

    Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    odd = freedom % 2
    term, total = cos(angle) if odd else 1.0, 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cos(angle) ** 2 * (power + 1) / (power + 2)
    return (angle + sin(angle) * total) * 2 / pi if odd else sin(angle) * total


def _mean(strata_by_seed: Sequence[Sequence[Stratum]]) -> list[Stratum]:
    """The strata whose marks are the means over the seeds."""
    assert strata_by_seed, "no seed"
    return _combined([(strata, 1 / len(strata_by_seed)) for strata in strata_by_seed])


def _combined(weighted: Sequence[tuple[Sequence[Stratum], float]]) -> list[Stratum]:
    """The strata whose marks are the weighted sums of those given; UserError if they differ in what was asked."""
    first = weighted[0][0]
    known = [{one.name: one for one in strata} for strata, _ in weighted]
    for strata in known[1:]:
        if strata.keys() != known[0].keys():
            raise UserError(
                f"scores of {', '.join(known[0]) or 'nothing'} and of {', '.join(strata) or 'nothing'} cannot be "
                "compared; score both under one protocol"
            )
    found = []
    for one in first:
        totals = np.zeros(len(one.items))
        for strata, (_, weight) in zip(known, weighted, strict=True):
            totals += weight * np.asarray(_aligned(strata[one.name], one))
        found.append(Stratum(one.name, one.items, tuple(totals.tolist()), one.counts))
    return found


def _aligned(stratum: Stratum, to: Stratum) -> tuple[float, ...]:
    """The totals in the order of the other's items; UserError if the items or their numbers of questions differ."""
    if stratum.items == to.items and stratum.counts == to.counts:
        return stratum.totals
    counts, known = (dict(zip(one.items, one.counts, strict=True)) for one in (stratum, to))
    if counts != known:
        different = sorted(id for id in counts | known if counts.get(id) != known.get(id))
        raise UserError(
            f"{stratum.name or 'scores'}: two models were asked different questions of {len(different)} items "
            f"({different[0]}, ...); score both on one set of questions"
        )
    totals = dict(zip(stratum.items, stratum.totals, strict=True))
    return tuple(totals[id] for id in to.items)


def _resampled(strata: Sequence[Stratum], seed: int) -> Marks:
    """The figure of each of RESAMPLES resamples, (RESAMPLES,); each stratum is drawn apart."""
    figures = np.zeros(RESAMPLES)
    for number, stratum in enumerate(strata):
        rng = np.random.default_rng((seed, number))
        totals, counts = np.asarray(stratum.totals), np.asarray(stratum.counts)
        block = max(1, _DRAWN_AT_ONCE // len(totals))
        for start in range(0, RESAMPLES, block):
            end = min(start + block, RESAMPLES)
            drawn = rng.integers(len(totals), size=(end - start, len(totals)))
            figures[start:end] += totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return figures


def _bounds(figures: Marks, level: float) -> tuple[float, float]:
    """The middle ``level`` of resampled figures: its lower and its upper end."""
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
