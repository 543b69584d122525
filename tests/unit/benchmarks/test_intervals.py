"""Intervals of scores: they cover a known truth as often as they say, alone, in pairs and over seeds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist, fmean

import numpy as np
import pytest
from numpy.typing import NDArray

from lntune.benchmarks import intervals
from lntune.benchmarks.intervals import (
    Stratum,
    by_image,
    difference,
    interval,
    over_items,
    over_seeds,
    read_strata,
    strata_of,
    t_quantile,
    value,
    write_score,
)
from lntune.benchmarks.mme import score as mme_score
from lntune.errors import UserError

Array = NDArray[np.float64]
SIMULATIONS = 1000


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulation is a thousand bootstraps; fewer resamples make an interval's ends rougher, and it a bit narrower."""
    monkeypatch.setattr(intervals, "RESAMPLES", 400)


def single(marks: Array, name: str = "") -> Stratum:
    """Items of one question each."""
    return Stratum.of(name, {str(k): [mark] for k, mark in enumerate(marks.tolist())})


def grouped(marks: Array, name: str = "") -> Stratum:
    """Items of several questions each, (items, questions)."""
    return Stratum.of(name, {str(k): row for k, row in enumerate(marks.tolist())})


def coverage(draw: Callable[[np.random.Generator], tuple[float, float] | None], truth: float) -> float:
    """The share of simulations whose interval holds the truth, in percent."""
    rng = np.random.default_rng(0)
    found = [draw(rng) for _ in range(SIMULATIONS)]
    return 100 * fmean(low <= truth <= high for low, high in filter(None, found))


def coins(p: float, number: int) -> Callable[[np.random.Generator], list[Stratum]]:
    return lambda rng: [single(100.0 * (rng.random(number) < p))]


def skewed(rng: np.random.Generator) -> list[Stratum]:
    """Marks as CIDEr has them: some zeros, most low, a few very high."""
    return [single(np.where(rng.random(300) < 0.1, 0.0, 50 * rng.lognormal(sigma=0.8, size=300)))]


# As MME's: images with two questions, which are right or wrong together more often than not; few images a subtask.
IMAGES = (70, 20, 20, 20)
CHANCES = (0.6, 0.5, 0.8, 0.7)
TOGETHER = 0.4


def in_groups(rng: np.random.Generator, p: float, groups: int, questions: int) -> Array:
    """Right or not, (groups, questions); two questions of a group correlate by TOGETHER."""
    spread = 1 / TOGETHER - 1
    chances = rng.beta(p * spread, (1 - p) * spread, size=(groups, 1))
    return (rng.random((groups, questions)) < chances).astype(float)


def subtasks(rng: np.random.Generator) -> list[Stratum]:
    drawn = {
        f"subtask {k}": [bool(one) for one in in_groups(rng, p, number, 2).ravel()]
        for k, (p, number) in enumerate(zip(CHANCES, IMAGES, strict=True))
    }
    return list(_mme(drawn))


def _mme(right: Mapping[str, Sequence[bool]]) -> tuple[Stratum, ...]:
    return strata_of({"": {name: mme_score.of_images(its) for name, its in right.items()}})[""]


MME_TRUTH = sum(100 * p + 100 * (p * p + TOGETHER * p * (1 - p)) for p in CHANCES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        pytest.param(coins(0.3, 200), 30, id="accuracy 0.3 of 200"),
        pytest.param(coins(0.9, 200), 90, id="accuracy 0.9 of 200"),
        pytest.param(coins(0.9, 500), 90, id="accuracy 0.9 of 500"),
        pytest.param(skewed, 0.9 * 50 * np.exp(0.32), id="CIDEr"),
        pytest.param(subtasks, MME_TRUTH, id="MME's cognition"),
        pytest.param(lambda rng: [grouped(100 * in_groups(rng, 0.8, 100, 6))], 80, id="POPE"),
    ],
)
def test_intervals_cover_the_truth_as_often_as_they_say(
    draw: Callable[[np.random.Generator], list[Stratum]], truth: float, few_resamples: None
) -> None:
    assert coverage(lambda rng: over_items([draw(rng)]), truth) == pytest.approx(95, abs=3)


@pytest.mark.slow
def test_intervals_over_questions_would_be_too_narrow_where_images_have_several(few_resamples: None) -> None:
    covered = coverage(lambda rng: over_items([[single(100 * in_groups(rng, 0.8, 50, 6).ravel())]]), 80)
    assert covered < 85  # six questions of an image say as much as two would: 74.8 (docs/statistics.md)


def alike(rng: np.random.Generator, chances: Sequence[float], number: int = 300) -> list[list[Stratum]]:
    """Models with these chances to be right, that find the same items hard."""
    hard = rng.normal(size=number)
    own = rng.normal(size=(len(chances), number))
    limits = [NormalDist().inv_cdf(chance) for chance in chances]
    return [
        [single(100.0 * (np.sqrt(0.7) * hard + np.sqrt(0.3) * mine < limit))]
        for mine, limit in zip(own, limits, strict=True)
    ]


def test_paired_differences_cover_the_truth_and_are_narrower(few_resamples: None) -> None:
    widths, unpaired = [], []

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        ours, baseline = alike(rng, (0.8, 0.7))
        found = difference([ours], [baseline])
        assert found is not None and found.value == pytest.approx(value(ours) - value(baseline))
        widths.append(found.high - found.low)
        if len(unpaired) < 50:
            ends = [over_items([strata]) for strata in (ours, baseline)]
            unpaired.append(np.hypot(*(high - low for low, high in filter(None, ends))))
        return found.low, found.high

    assert coverage(draw, 10) == pytest.approx(95, abs=3)
    assert fmean(widths[:50]) < 0.75 * fmean(unpaired)


def test_seeds_are_averaged_item_by_item(few_resamples: None) -> None:
    chances = (0.7, 0.75, 0.8)
    assert coverage(lambda rng: over_items(alike(rng, chances)), 75) == pytest.approx(95, abs=3)
    seeds = alike(np.random.default_rng(1), chances)
    alone = [over_items([strata]) for strata in seeds]
    together = over_items(seeds)
    assert together is not None and together[0] < fmean(map(value, seeds)) < together[1]
    # Seeds share what is hard for all, so three of them are no three times as many items.
    widths = [high - low for low, high in filter(None, alone)]
    assert fmean(widths) / np.sqrt(3) < together[1] - together[0] < fmean(widths)
    assert over_items([seeds[0]] * 3) == pytest.approx(alone[0])
    gain = difference(seeds, [seeds[0]])
    assert gain is not None and gain.value == pytest.approx(fmean(map(value, seeds)) - value(seeds[0]))


@pytest.mark.parametrize("number", [2, 3, 5, 12])
def test_intervals_over_seeds_cover_another_training_run(number: int) -> None:
    def draw(rng: np.random.Generator) -> tuple[float, float] | None:
        return over_seeds((60 + 2 * rng.normal(size=number)).tolist())

    assert coverage(draw, 60) == pytest.approx(95, abs=2)


def test_intervals_over_seeds() -> None:
    low, high = over_seeds([1.0, 2.0, 3.0]) or (0, 0)
    assert (low, high) == pytest.approx((2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3)))
    assert over_seeds([1.0]) is None
    # The t table of any textbook.
    table = {1: 12.706205, 2: 4.302653, 3: 3.182446, 4: 2.776445, 9: 2.262157, 10: 2.228139, 30: 2.042272}
    assert {n: t_quantile(0.95, n) for n in table} == pytest.approx(table, rel=1e-6)
    assert t_quantile(0.99, 4) == pytest.approx(4.604095)
    assert t_quantile(0.95, 10_001) == pytest.approx(1.96, abs=1e-3)


def test_models_that_were_asked_different_things_are_not_compared() -> None:
    one = Stratum.of("count", {"a": [1, 0], "b": [1, 1]})
    same = Stratum.of("count", {"b": [1, 0], "a": [1, 1]})  # in another order
    found = difference([[one]], [[same]])
    assert found is not None and (found.value, found.low, found.high) == (0, -0.5, 0.5)
    for other in ({"a": [1, 0]}, {"a": [1, 0], "c": [1, 1]}, {"a": [1, 0], "b": [1]}):
        with pytest.raises(UserError, match=r"^count: two models were asked different questions of \d items \([abc], "):
            difference([[one]], [[Stratum.of("count", other)]])
    with pytest.raises(UserError, match="scores of count and of OCR cannot be compared"):
        over_items([[one], [Stratum.of("OCR", {"a": [1, 0], "b": [1, 1]})]])
    assert over_items([[]]) is None and difference([[]], [[]]) is None and value([]) == 0


def test_an_interval_is_as_wide_as_theory_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = np.repeat([0.0, 100.0], [200, 300])
    low, high = interval(marks)
    half = 1.96 * 100 * np.sqrt(0.6 * 0.4 / 500)
    assert (low, high) == pytest.approx((60 - half, 60 + half), abs=0.5)
    assert interval(marks) == (low, high) == over_items([[single(marks)]])
    assert interval([5.0] * 7) == (5.0, 5.0)
    monkeypatch.setattr(intervals, "LEVEL", 0.5)
    narrow = interval(marks)
    assert low < narrow[0] < narrow[1] < high


def test_memory_bounds_change_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = np.random.default_rng(4).random((37, 2))
    at_once = over_items([[grouped(marks), grouped(1 - marks, "b")]])
    monkeypatch.setattr(intervals, "_DRAWN_AT_ONCE", 1000)
    assert over_items([[grouped(marks), grouped(1 - marks, "b")]]) == at_once


def test_items_with_more_questions_weigh_more() -> None:
    strata = [Stratum.of("", {"a": [100.0] * 6, "b": [0.0, 0.0]})]
    assert value(strata) == 75
    assert over_items([strata]) == (0, 100)


def test_mmes_interval_draws_images_within_each_subtask() -> None:
    rng = np.random.default_rng(5)
    marks = {name: [bool(x) for x in rng.random(number) < 0.7] for name, number in (("count", 60), ("OCR", 40))}
    whole = _mme(marks)
    assert [one.name for one in whole] == ["count", "OCR"] and _mme({}) == ()
    scores = [mme_score.score_subtask(found)["score"] for found in marks.values()]
    assert value(whole) == pytest.approx(sum(scores))
    ends = over_items([whole])
    assert ends is not None and ends[0] < sum(scores) < ends[1]
    # Independent parts: variances add up, and so do the squares of widths.
    parts = [over_items([[one]]) for one in whole]
    assert ends[1] - ends[0] == pytest.approx(np.hypot(*(high - low for low, high in filter(None, parts))), rel=0.06)
    sure = _mme({"count": [True] * 8, "OCR": [False] * 2, "color": [True, False] * 4})
    assert over_items([sure]) == (250.0, 250.0)


def test_per_item_scores_are_written_and_read(tmp_path: Path) -> None:
    images = {"popular/1": "1.jpg", "popular/2": "1.jpg", "popular/3": "2.jpg"}
    right = {"popular/1": True, "popular/2": False, "popular/3": True}
    parts = {"popular": {"popular": by_image(images, right, 100.0)}}
    write_score(tmp_path, {"accuracy": 200 / 3}, parts, right)
    assert read_strata(tmp_path) == {"popular": (Stratum("popular", ("1.jpg", "2.jpg"), (100, 100), (2, 1)),)}
    found = by_image({"7": "a.jpg", "8": "b.jpg", "9": "a.jpg"}, {"7": 0.3, "8": 1.0, "9": 0.9}, 100.0)
    assert found == {"a.jpg": [30.0, 90.0], "b.jpg": [100.0]}
    assert value(strata_of({"": {"VQAv2": found}})[""]) == pytest.approx(220 / 3)
    similarity = strata_of({"all": {"": {"q1": [0.5], "q2": [0.7]}}, "last": {"": {"q1": [0.1], "q2": [0.2]}}})
    assert value(similarity["all"]) == pytest.approx(0.6) and value(similarity["last"]) == pytest.approx(0.15)
