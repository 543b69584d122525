"""Numbers that know which cells they come from, and what formulas do with them.

A :data:`Numbers` maps a :class:`Key` (group, row, column) to a value. Two of them are matched by their
keys; along an axis on which one of the two has a single entry, that entry goes with all of the other's.
"""

from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import NamedTuple


class FormulaError(Exception):
    """What is wrong with a formula, in a few words."""


class AbsentError(FormulaError):
    """A formula asks for a cell that the tables do not have."""


class Key(NamedTuple):
    """Which cell a number comes from; empty along an axis that was averaged away."""

    group: str
    row: str
    column: str


Numbers = dict[Key, float]

Aggregate = Callable[[Sequence[float]], float]


def matched(a: Numbers, b: Numbers) -> dict[Key, tuple[float, float]]:
    """The values of ``a``, each with the one of ``b`` that goes with it.

    Raises:
        FormulaError: a value of either has none to go with.
    """
    single = [(len({key[axis] for key in a}) == 1, len({key[axis] for key in b}) == 1) for axis in range(3)]
    found: dict[Key, tuple[float, float]] = {}
    used: set[Key] = set()
    for mine, value in a.items():
        for other, partner in b.items():
            if all(mine[axis] == other[axis] or any(single[axis]) for axis in range(3)):
                # The side with several entries gives the name.
                names = [other[axis] if single[axis] == (True, False) else mine[axis] for axis in range(3)]
                found[Key(*names)] = (value, partner)
                used |= {mine, other}
    lonely = next((key for key in [*a, *b] if key not in used), None)
    if lonely is not None:
        raise FormulaError(f"there is nothing to match with {', '.join(word for word in lonely if word)}")
    return found


def gain(a: float, b: float) -> float:
    """How far ``a`` lies above ``b``, in percent of ``b``."""
    if b == 0:
        raise AbsentError("a percentage of nothing")
    return 100 * (a / b - 1)


def pairwise(function: Callable[[float, float], float], a: Numbers | float, b: Numbers | float) -> Numbers | float:
    """``function`` of single values, or of those that match."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: function(*pair) for key, pair in matched(a, b).items()}
    if isinstance(a, dict) or isinstance(b, dict):
        raise FormulaError("cells and a single number cannot be matched")
    return function(a, b)


def aggregate(function: Aggregate, numbers: Numbers, by: str = "") -> Numbers | float:
    """One value of all, or with ``by`` (axes with commas between: "group, column") one for each entry of these axes."""
    if not by:
        return function(list(numbers.values()))
    axes = [axis.strip() for axis in by.split(",")]
    for axis in axes:
        if axis not in Key._fields:
            raise FormulaError(f"unknown axis {axis!r} (known: {', '.join(Key._fields)})")
    grouped: dict[Key, list[float]] = {}
    for key, value in numbers.items():
        kept = Key(*(word if name in axes else "" for name, word in zip(Key._fields, key, strict=True)))
        grouped.setdefault(kept, []).append(value)
    return {key: function(values) for key, values in grouped.items()}


AGGREGATES: dict[str, Aggregate] = {
    "mean": fmean,
    "median": median,
    "lowest": min,
    "highest": max,
    "total": sum,
    "count": lambda values: float(len(values)),
}


def count_below(numbers: Numbers, bound: float) -> float:
    """How many values are less than ``bound``."""
    return float(sum(value < bound for value in numbers.values()))


def count_above(numbers: Numbers, bound: float) -> float:
    """How many values are more than ``bound``."""
    return float(sum(value > bound for value in numbers.values()))


def count_different(a: Numbers, b: Numbers) -> float:
    """How many values differ from those that match them."""
    return float(sum(mine != other for mine, other in matched(a, b).values()))


def count_missing(a: Numbers, b: Numbers) -> float:
    """How many values of ``a`` are none of ``b``'s, wherever these stand."""
    return float(sum(value not in b.values() for value in a.values()))


def row_titles(numbers: Numbers) -> Numbers:
    """The titles of the rows as numbers, where these are numbers (Table A1's learning rates)."""
    try:
        return {key: float(key.row) for key in numbers}
    except ValueError as error:
        raise FormulaError(f"row_titles: {error}") from None


def row_of_highest(numbers: Numbers) -> float:
    """The title, as a number, of the row that holds the highest value."""
    return row_titles({best: 0.0 for best in [max(numbers, key=lambda key: numbers[key])]}).popitem()[1]
