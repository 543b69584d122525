"""What a table's cell shows of a score: the figures of a column, written as the paper writes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One cell: figures that are ranked separately (MME's two, POPE's three), each with its decimals."""

    figures: tuple[float, ...]
    decimals: int
    interval: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Each figure as it is written."""
        return tuple(f"{figure:.{self.decimals}f}" for figure in self.figures)

    @property
    def text(self) -> str:
        """All figures, with slashes between them."""
        return "/".join(self.parts)


_POPE = ("popular", "random", "adversarial")


def _bounds(intervals: Mapping[str, Any], names: tuple[str, ...], decimals: int) -> str:
    found = [intervals[name] for name in names]
    return "/".join("-" if one is None else f"{one[0]:.{decimals}f}..{one[1]:.{decimals}f}" for one in found)


def cell_of(column: str, scores: Mapping[str, Any]) -> Cell:
    """The cell of a column from a benchmark's scores.json.

    MME: perception/cognition; VQAv2: overall accuracy; MSCOCO and Flickr30k: CIDEr; POPE: accuracy on
    popular/random/adversarial, in the paper's order (Table 1).
    """
    intervals = scores["intervals"]
    if column == "MME":
        names: tuple[str, ...] = ("perception", "cognition")
        return Cell(tuple(scores[name] for name in names), 1, _bounds(intervals, names, 1))
    if column == "POPE":
        return Cell(tuple(scores[kind]["accuracy"] for kind in _POPE), 1, _bounds(intervals, _POPE, 1))
    name = "overall" if column == "VQAv2" else "CIDEr"
    return Cell((scores[name],), 2, _bounds(intervals, (name,), 2))
