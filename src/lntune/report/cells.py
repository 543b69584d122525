"""What a cell shows of the results that it is read from: the figures of a column, written as the paper writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Any

from lntune.benchmarks.intervals import difference, over_items, over_seeds
from lntune.benchmarks.per_item_scores import Strata, strata_of

Interval = tuple[float, float] | None

NO_CAPTIONS = "-"
"""In place of a CIDEr whose model cannot follow the format: too few of its answers are captions in form."""


@dataclass(frozen=True)
class Figure:
    """One number of a cell.

    Attributes:
        text: as it is written; "OOM" and "-" are no numbers.
        by_seed: the number under each seed, if it is a score.
        strata: the marks that the score is made of, a seed each.
    """

    text: str
    by_seed: tuple[float, ...] = ()
    strata: tuple[Strata, ...] = ()

    @cached_property
    def interval(self) -> Interval:
        """The bootstrap 95% interval over what was asked."""
        return over_items(self.strata) if self.strata else None

    @property
    def seeds(self) -> Interval:
        """The 95% interval over training seeds; None of one seed."""
        return over_seeds(self.by_seed)


@dataclass(frozen=True)
class Cell:
    """One cell: figures that are ranked separately (MME's two, POPE's three).

    Attributes:
        figures: its numbers.
        decimals: digits that scores are written with; None of what has no interval.
        beside: what the CSV says besides, by the end of the column's title.
    """

    figures: tuple[Figure, ...]
    decimals: int | None = None
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """Each figure as it is written."""
        return tuple(one.text for one in self.figures)

    @property
    def text(self) -> str:
        """All figures, with slashes between them; what stands for all of them, once."""
        return self.parts[0] if len(set(self.parts)) == 1 and number(self.parts[0]) is None else "/".join(self.parts)

    @property
    def interval(self) -> str:
        """The intervals over what was asked, with slashes between them."""
        return "/".join(self.bounds(one.interval) for one in self.figures)

    @property
    def seeds(self) -> str:
        """The intervals over training seeds, with slashes between them."""
        return "/".join(self.bounds(one.seeds) for one in self.figures)

    def minus(self, other: "Cell") -> tuple[str, str]:
        """How much higher the figures are than another model's, and the paired intervals of that."""
        values, intervals = [], []
        for one, its in zip(self.figures, other.figures, strict=True):
            found = difference(one.strata, its.strata) if one.strata and its.strata else None
            values.append("-" if found is None else f"{found.value:+.{self.decimals}f}")
            intervals.append(self.bounds(None if found is None else (found.low, found.high)))
        return "/".join(values), "/".join(intervals)

    def bounds(self, interval: Interval) -> str:
        """An interval as it is written; "-" if there is none."""
        return "-" if interval is None else f"{interval[0]:.{self.decimals}f}..{interval[1]:.{self.decimals}f}"


def number(text: str) -> float | None:
    """A written figure as a number; None for what is none."""
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return None


def total(cell: Cell) -> Figure:
    """The sum of a cell's figures as one figure, with an interval of its own."""
    by_seed = tuple(map(sum, zip(*(one.by_seed for one in cell.figures), strict=True)))
    strata = tuple(sum(parts, ()) for parts in zip(*(one.strata for one in cell.figures), strict=True))
    return Figure(f"{fmean(by_seed):.{cell.decimals}f}" if by_seed else cell.text, by_seed, strata)


# --- the columns -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What decides how results are read, besides what they hold.

    Attributes:
        tokens: of Similarity, the tokens whose states are compared.
        least_share: of captions in form, below which there is no CIDEr; of several seeds their mean counts.
    """

    tokens: str | None
    least_share: float


def cell_of(column: str, folders: Sequence[Path], reading: Reading) -> Cell:
    """A cell of a column.

    MME: perception/cognition; VQAv2: overall accuracy; MSCOCO and Flickr30k: CIDEr; POPE: accuracy on
    popular/random/adversarial, in the paper's order (Table 1); Mem. (GB) and #param.: Table 2; Similarity: Table 6.

    Args:
        column: its title.
        folders: the results that it is read from, a seed each.
        reading: how.
    """
    return _COLUMNS[column](column, folders, reading)


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def _scores(
    keys: Mapping[str, Sequence[str]], decimals: int, column: str, folders: Sequence[Path], reading: Reading
) -> Cell:
    """Figures of scores.json, each found by its keys; their marks by the part's name; of several seeds the mean."""
    scores = [_read(folder, "scores.json") for folder in folders]
    strata = [strata_of(column, _read(folder, "marks.json")) for folder in folders]
    figures = []
    for part, path in keys.items():
        found = tuple(_at(one, path) for one in scores)
        figures.append(Figure(f"{fmean(found):.{decimals}f}", found, tuple(one.get(part, ()) for one in strata)))
    return Cell(tuple(figures), decimals)


def _at(document: Any, keys: Sequence[str]) -> float:
    for key in keys:
        document = document[key]
    return float(document)


def _captions(column: str, folders: Sequence[Path], reading: Reading) -> Cell:
    """CIDEr, unless the model does not write captions."""
    if fmean(_read(folder, "scores.json")["followed"] for folder in folders) < reading.least_share:
        return Cell((Figure(NO_CAPTIONS),), 2)
    return _scores({"": ("CIDEr",)}, 2, column, folders, reading)


def _memory(column: str, folders: Sequence[Path], reading: Reading) -> Cell:
    measured = _measured(folders[0], "peak_bytes")
    predicted = _gigabytes(_labelled(folders[0], "peak_bytes", "predicted"))
    text = measured if isinstance(measured, str) else _gigabytes(measured)
    return Cell((Figure(text),), beside={"predicted": predicted})


def _gigabytes(size: float) -> str:
    """Bytes in 10**9, with one digit as Table 2 has it, and three that count below 1."""
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:#.3g}"


def _parameters(column: str, folders: Sequence[Path], reading: Reading) -> Cell:
    return Cell((Figure(f"{_measured(folders[0], 'trainable_percent')}%"),))


def _measured(folder: Path, name: str) -> Any:
    return _labelled(folder, name, "measured")


def _labelled(folder: Path, name: str, label: str) -> Any:
    """A number of measure.json; those that were predicted or printed are labelled so."""
    numbers = _read(folder, "measure.json")["numbers"]
    return next(one["value"] for one in numbers if (one["name"], one["label"]) == (name, label))


def _similarity(column: str, folders: Sequence[Path], reading: Reading) -> Cell:
    assert reading.tokens is not None
    found = tuple(_read(folder, "similarity.json")["tokens"][reading.tokens]["mean"] for folder in folders)
    strata = [strata_of(column, _read(folder, "marks.json"), reading.tokens)[""] for folder in folders]
    return Cell((Figure(f"{fmean(found):.3f}", found, tuple(strata)),), 3)


_COLUMNS: dict[str, Callable[[str, Sequence[Path], Reading], Cell]] = {
    "MME": partial(_scores, {name: (name,) for name in ("perception", "cognition")}, 1),
    "VQAv2": partial(_scores, {"": ("overall",)}, 2),
    "MSCOCO": _captions,
    "Flickr30k": _captions,
    "POPE": partial(_scores, {kind: (kind, "accuracy") for kind in ("popular", "random", "adversarial")}, 1),
    "Mem. (GB)": _memory,
    "#param.": _parameters,
    "Similarity": _similarity,
}
