"""Rounds of a comparison, taken in turn, and the row of results.md that they make."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple, TypedDict

from lntune.config import Frozen

ROUNDS = 5

Contestant = Callable[[], float]
"""Does the work once, and returns what it took in the row's unit."""

Say = Callable[[str], None]


class Spread(NamedTuple):
    """Median, least and most of some rounds."""

    median: float
    least: float
    most: float


class Rounds(TypedDict):
    """The figures of both sides, round by round."""

    rival_rounds: tuple[float, ...]
    our_rounds: tuple[float, ...]


class Row(Frozen):
    """One line of results.md: the figures of each round, and what was to be reached.

    ``target`` bounds the ratio, how many times as fast as the rival (``at least``), or our own figure (``at most``).
    ``unit`` is ``s`` or another cost, or ends in ``/s`` where more is better. ``equal`` says which results were held
    against each other in this very run. ``profile`` (lines of Markdown) tells where the time goes; ``reason`` is shown
    where the median misses the target.
    """

    work: str
    rival: str
    unit: str
    rival_rounds: tuple[float, ...]
    our_rounds: tuple[float, ...]
    target: float
    bound: Literal["at least", "at most"] = "at least"
    limit: str = ""
    equal: str = ""
    reason: str = ""
    profile: tuple[str, ...] = ()

    def ratios(self) -> list[float]:
        """How many times as fast ours was, round by round."""
        pairs = zip(self.our_rounds, self.rival_rounds, strict=True)
        return [ours / rival if self.unit.endswith("/s") else rival / ours for ours, rival in pairs]

    def reached(self) -> bool:
        """Whether the median is within the target."""
        if self.bound == "at least":
            return median(self.ratios()) >= self.target
        return median(self.our_rounds) <= self.target


class Measured(Frozen):
    """The rows of one module, all of one run, what they were measured on, and what is to be said of all of them."""

    date: str
    commit: str
    machine: str
    versions: Mapping[str, str]
    rows: tuple[Row, ...]
    note: str = ""


def spread(figures: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(median(figures), min(figures), max(figures))


def clocked(work: Callable[[], object]) -> Contestant:
    """A contestant whose figure is the seconds that ``work`` takes."""

    def timed() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return timed


def in_turn(
    name: str, rival: Contestant, ours: Contestant, say: Say, rounds: int = ROUNDS, *, warm_up: bool = True
) -> Rounds:
    """Let both do the work in turn; the figures of each, as :class:`Row` wants them. The warm-up does not count."""
    found: list[tuple[float, float]] = []
    for number in range(0 if warm_up else 1, rounds + 1):
        pair = rival(), ours()
        say(f"{name}: round {number or 'zero (warm-up)'}: rival {pair[0]:.4g}, ours {pair[1]:.4g}")
        if number:
            found.append(pair)
    return {"rival_rounds": tuple(pair[0] for pair in found), "our_rounds": tuple(pair[1] for pair in found)}
