"""What a cell shows of the results that it is read from: the values of a column, written as the paper writes them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import chain
from operator import getitem
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import Field

from lntune.benchmarks.intervals import Strata, difference, over_items, over_seeds, read_strata
from lntune.config import Frozen
from lntune.training.endings import describe, read_endings

Interval = tuple[float, float] | None

NO_SCORE = "-"
"""In place of a score without a model, or whose model cannot follow the format: too few of its answers are in form."""


@dataclass(frozen=True)
class Value:
    """One number of a cell as it is written ("OOM" and "-" are no numbers); of a score also, a seed each, the number
    and the per-item scores that it is made of.
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
    """One cell: values that are ranked separately (MME's two), and the decimals of its intervals, if it can have one.

    ``beside`` is what the CSV says besides, by the end of the column's title; ``note``, why there is no value, where
    training diverged or its search stopped it, and ``short`` the same in a few words.
    """

    values: tuple[Value, ...]
    decimals: int | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    short: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Each value as it is written."""
        return tuple(one.text for one in self.values)

    @property
    def text(self) -> str:
        """All values, with slashes between them; what stands for all of them, once."""
        return self.parts[0] if len(set(self.parts)) == 1 and number(self.parts[0]) is None else "/".join(self.parts)

    @property
    def interval(self) -> str:
        """The intervals over what was asked, with slashes between them."""
        return "/".join(self.bounds(one.interval) for one in self.values)

    @property
    def seeds(self) -> str:
        """The intervals over training seeds, with slashes between them."""
        return "/".join(self.bounds(one.seeds) for one in self.values)

    def minus(self, other: "Cell") -> tuple[str, str]:
        """How much higher the values are than another model's, and the paired intervals of that."""
        differences, intervals = [], []
        for one, its in zip(self.values, other.values, strict=True):
            found = difference(one.strata, its.strata) if one.strata and its.strata else None
            differences.append("-" if found is None else f"{found.value:+.{self.decimals}f}")
            intervals.append(self.bounds(None if found is None else (found.low, found.high)))
        return "/".join(differences), "/".join(intervals)

    def bounds(self, interval: Interval) -> str:
        """An interval as it is written; "-" if there is none."""
        ends = self.ends(interval)
        return "-" if ends is None else "..".join(ends)

    def ends(self, interval: Interval) -> tuple[str, str] | None:
        """The lower and the upper end of an interval as they are written."""
        return None if interval is None else (f"{interval[0]:.{self.decimals}f}", f"{interval[1]:.{self.decimals}f}")


def number(text: str) -> float | None:
    """A written value as a number; None for what is none."""
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return None


def total(cell: Cell) -> Value:
    """The sum of a cell's values as one value, with an interval of its own."""
    by_seed = tuple(map(sum, zip(*(one.by_seed for one in cell.values), strict=True)))
    strata = tuple(sum(parts, ()) for parts in zip(*(one.strata for one in cell.values), strict=True))
    return Value(f"{fmean(by_seed):.{cell.decimals}f}" if by_seed else cell.text, by_seed, strata)


# --- the columns -----------------------------------------------------------------------------------------------------


class ScoreValue(Frozen):
    """One value of a score's cell: its part in per_item_scores.json, and the keys that lead to it in scores.json."""

    part: str
    keys: tuple[str, ...] = Field(strict=False)


class ScoreFormat(Frozen):
    """How the cells of a benchmark's column are read and written; ``measure`` names the sum of a cell's values.

    ``least`` is what scores.json must have at least for the cell to be no "-"; of several seeds their mean counts.
    """

    values: tuple[ScoreValue, ...] = Field(strict=False)
    decimals: int
    measure: str
    least: dict[str, float]


def cell_of(column: str, folders: Sequence[Path], format: ScoreFormat | None, tokens: str | None) -> Cell:
    """A cell of a benchmark's column, of Mem. (GB) or #param. (Table 2), or of Similarity (Table 6), over ``tokens``.

    ``folders`` are the results that it is read from, a seed each.
    """
    if ended := [its for folder in folders if (its := read_endings(folder))]:
        note = "; ".join(dict.fromkeys(map(describe, ended)))
        note += f" ({len(ended)} of {len(folders)} seeds)" if len(folders) > 1 else ""
        runs = [run for its in ended for run in its]
        beside = {
            name.replace("_", " "): "; ".join(str(run.facts[name]) for run in runs if name in run.facts)
            for name in chain.from_iterable(run.facts for run in runs)
        }
        short = "; ".join(dict.fromkeys(run.short for run in runs))
        values, decimals = (len(format.values), format.decimals) if format else (1, 3)
        return Cell((Value(NO_SCORE),) * values, decimals, beside, note, short)
    if format is not None:
        return _scores(folders, format)
    if column == "Similarity":
        assert tokens is not None
        found = tuple(_read(folder, "similarity.json")["tokens"][tokens]["mean"] for folder in folders)
        strata = tuple(read_strata(folder)[tokens] for folder in folders)
        return Cell((Value(f"{fmean(found):.3f}", found, strata),), 3)
    return {"Mem. (GB)": _memory, "#param.": _parameters}[column](folders[0])


def _read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())


def _scores(folders: Sequence[Path], format: ScoreFormat) -> Cell:
    """Values of scores.json, of several seeds the mean, with what their intervals draw."""
    scores = [_read(folder, "scores.json") for folder in folders]
    for key, least in format.least.items():
        if fmean(one[key] for one in scores) < least:
            return Cell((Value(NO_SCORE),), format.decimals)
    strata = [read_strata(folder) for folder in folders]
    values = []
    for value in format.values:
        found = tuple(float(reduce(getitem, value.keys, one)) for one in scores)
        text = f"{fmean(found):.{format.decimals}f}"
        values.append(Value(text, found, tuple(one.get(value.part, ()) for one in strata)))
    return Cell(tuple(values), format.decimals)


def _memory(folder: Path) -> Cell:
    measured = _labelled(folder, "peak_bytes", "measured")
    text = measured if isinstance(measured, str) else _gigabytes(measured)
    predicted = _gigabytes(_labelled(folder, "peak_bytes", "predicted"))
    return Cell(
        (Value(text),),
        beside={"predicted": predicted, "precision": _read(folder, "measure.json")["setup"]["precision"]},
    )


def _gigabytes(size: float) -> str:
    """Bytes in 10**9, with one digit as Table 2 has it, and three that count below 1."""
    return f"{size / 1e9:.1f}" if size >= 1e9 else f"{size / 1e9:#.3g}"


def _parameters(folder: Path) -> Cell:
    return Cell((Value(f"{_labelled(folder, 'trainable_percent', 'measured')}%"),))


def _labelled(folder: Path, name: str, label: str) -> Any:
    """A number of measure.json; those that were predicted or printed are labelled so."""
    numbers = _read(folder, "measure.json")["numbers"]
    return next(one["value"] for one in numbers if (one["name"], one["label"]) == (name, label))
