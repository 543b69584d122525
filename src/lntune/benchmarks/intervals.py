"""How sure a score is: bootstrap intervals over what was asked, alone or of two models, and t intervals over seeds.

    strata = read_strata(score)["popular"]
    value(strata)                         # what the table prints
    over_items([strata])                  # it with other images of the same kind
    difference([ours], [baseline])        # two models that were asked the same: a paired bootstrap
    over_seeds([61.2, 60.4, 62.9])        # another training run

docs/statistics.md says which interval speaks of what.

A score's per_item_scores.json says what is drawn: to each part of a table's cell ("" of a cell that has only
one value) its strata, to each stratum its items, which are images, to each item the scores of its questions, in the
value's unit. ``questions`` holds each question's own score, for ``lntune trace --show``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi, sin, sqrt, tan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lntune.errors import UserError

Numbers = NDArray[np.float64]
Parts = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
"""Part of a cell -> stratum -> item -> the scores of its questions."""

PER_ITEM_SCORES = "per_item_scores.json"

RESAMPLES = 2000
LEVEL = 0.95
_DRAWN_AT_ONCE = 1 << 18  # as much as a processor keeps at hand
_HALVINGS = 60


@dataclass(frozen=True)
class Stratum:
    """Items of one kind, which are drawn among themselves: one of MME's subtasks, or a whole benchmark.

    Its value is the mean score of a question, the sum of ``totals`` over the sum of ``counts``.
    """

    name: str  # what its items have in common; unique in a value
    items: tuple[str, ...]  # the id of each item, that is of what is drawn: an image
    totals: tuple[float, ...]  # the sum of the scores of each item's questions, in the value's unit
    counts: tuple[int, ...]  # how many questions each item has

    @classmethod
    def of(cls, name: str, scores: Mapping[str, Sequence[float]]) -> "Stratum":
        """From each item's id to the scores of its questions; no item may be without a question."""
        totals = tuple(float(sum(found)) for found in scores.values())
        return cls(name, tuple(scores), totals, tuple(map(len, scores.values())))


Strata = tuple[Stratum, ...]


@dataclass(frozen=True)
class Difference:
    """One model's value minus another's, with the 95% interval of the difference."""

    value: float
    low: float
    high: float


def by_image(images: Mapping[str, str], scores: Mapping[str, float], factor: float) -> dict[str, list[float]]:
    """The scores of questions, times a factor, by the question's image."""
    found: dict[str, list[float]] = {}
    for question, one in scores.items():
        found.setdefault(images[question], []).append(factor * one)
    return found


def write_score(out: Path, document: Mapping[str, Any], parts: Parts, questions: Mapping[str, Any]) -> None:
    """Write scores.json and per_item_scores.json."""
    (out / "scores.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    write_per_item_scores(out, parts, questions)


def write_per_item_scores(out: Path, parts: Parts, questions: Mapping[str, Any]) -> None:
    """Write per_item_scores.json."""
    (out / PER_ITEM_SCORES).write_text(json.dumps({"parts": parts, "questions": questions}) + "\n", encoding="utf-8")


def read_strata(folder: Path) -> dict[str, Strata]:
    """The strata of each part of a cell, from the per_item_scores.json of a score's folder."""
    return strata_of(json.loads((folder / PER_ITEM_SCORES).read_bytes())["parts"])


def strata_of(parts: Parts) -> dict[str, Strata]:
    """The strata of each part."""
    return {part: tuple(Stratum.of(name, its) for name, its in strata.items()) for part, strata in parts.items()}


def value(strata: Sequence[Stratum]) -> float:
    """The sum over the strata of the mean score in each; 0 without a stratum."""
    return sum((sum(one.totals) / sum(one.counts) for one in strata), 0.0)


def over_items(strata_by_seed: Sequence[Sequence[Stratum]]) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a value over its items, drawn with replacement within each stratum.

    With several training seeds an item's scores are averaged over them first: the interval is that of the mean of the
    seeds' values. None without a stratum; UserError if the seeds were not asked the same.
    """
    strata = _mean(strata_by_seed)
    return _bounds(_resampled(strata)) if strata else None


def difference(ours: Sequence[Sequence[Stratum]], baseline: Sequence[Sequence[Stratum]]) -> Difference | None:
    """One model's value minus another's, with its paired bootstrap interval; arguments as of :func:`over_items`.

    Both meet the same drawn items, so what makes an item hard for both cancels; they may have different numbers of
    seeds. None without a stratum; UserError if the models were not asked the same.
    """
    strata = _combined([(_mean(ours), 1.0), (_mean(baseline), -1.0)])
    return Difference(value(strata), *_bounds(_resampled(strata))) if strata else None


def over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's t interval of the mean of the values of several training seeds; None with fewer than two.

    Where items do not matter, the interval of a difference of models is that of the differences seed by seed.
    """
    if len(values) < 2:
        return None
    half = t_quantile(LEVEL, len(values) - 1) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def interval(scores: Sequence[float] | Numbers) -> tuple[float, float]:
    """The bootstrap interval of the mean of scores, one an item."""
    stratum = Stratum.of("", {str(number): [float(one)] for number, one in enumerate(scores)})
    return _bounds(_resampled([stratum]))


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
    """The strata whose scores are the means over the seeds."""
    assert strata_by_seed, "no seed"
    return _combined([(strata, 1 / len(strata_by_seed)) for strata in strata_by_seed])


def _combined(weighted: Sequence[tuple[Sequence[Stratum], float]]) -> list[Stratum]:
    """The strata whose scores are the weighted sums of those given; UserError if they differ in what was asked."""
    known = [{one.name: one for one in strata} for strata, _ in weighted]
    for strata in known[1:]:
        if strata.keys() != known[0].keys():
            both = f"{', '.join(known[0]) or 'nothing'} and of {', '.join(strata) or 'nothing'}"
            raise UserError(f"scores of {both} cannot be compared; score both under one protocol")
    found = []
    for one in weighted[0][0]:
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


def _resampled(strata: Sequence[Stratum]) -> Numbers:
    """The value of each of RESAMPLES resamples, (RESAMPLES,); each stratum is drawn apart, alike for every model."""
    values = np.zeros(RESAMPLES)
    for number, stratum in enumerate(strata):
        rng = np.random.default_rng((0, number))
        totals, counts = np.asarray(stratum.totals), np.asarray(stratum.counts)
        block = max(1, _DRAWN_AT_ONCE // len(totals))
        for start in range(0, RESAMPLES, block):
            end = min(start + block, RESAMPLES)
            drawn = rng.integers(len(totals), size=(end - start, len(totals)))
            values[start:end] += totals[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return values


def _bounds(values: Numbers) -> tuple[float, float]:
    """The middle LEVEL of resampled values: its lower and its upper end."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
