"""Which figures of a table are emphasised: the best and the second best of a group, figure by figure."""

import math
from collections.abc import Sequence
from typing import Literal

from lntune.report.cells import Cell, number

Emphasis = Literal["best-and-second", "best", "none"]
Mark = Literal["best", "second", "none"]

LOWER_IS_BETTER = frozenset({"Mem. (GB)", "#param.", "Similarity"})
"""Columns whose lowest figure is the best; of all others it is the highest."""


def marks(cells: Sequence[Cell], emphasis: Emphasis, *, lower_is_better: bool = False) -> list[tuple[Mark, ...]]:
    """How each figure of a column of one group is marked, as Table 1 of the paper marks them.

    Figures are ranked as they are written: those that are written alike are not told apart. What is no number ("-",
    "OOM") has no rank. The best is marked if there are at least two different figures, the second if there are three.

    Args:
        cells: the column's cells, each with as many figures.
        emphasis: what is marked.
        lower_is_better: whether the lowest is the best.
    """
    ranks = [_ranks(cells, part, emphasis, lower_is_better) for part in range(max(len(cell.parts) for cell in cells))]
    return [tuple(ranks[part].get(_finite(text), "none") for part, text in enumerate(cell.parts)) for cell in cells]


def _ranks(cells: Sequence[Cell], part: int, emphasis: Emphasis, lower_is_better: bool) -> dict[float | None, Mark]:
    written = {_finite(cell.parts[part]) for cell in cells if part < len(cell.parts)}
    found = sorted((value for value in written if value is not None), reverse=not lower_is_better)
    ranks: dict[float | None, Mark] = {}
    if len(found) > 1 and emphasis != "none":
        ranks[found[0]] = "best"
        if len(found) > 2 and emphasis == "best-and-second":
            ranks[found[1]] = "second"
    return ranks


def _finite(text: str) -> float | None:
    value = number(text)
    return value if value is not None and math.isfinite(value) else None
