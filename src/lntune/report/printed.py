"""What tables print, one figure each: the paper's tables, transcribed, and ours, in the same terms.

    paper = read_paper(Path("workflow/paper/table1.csv"))
    ours = read_ours("table1", Path("tables/table1.csv"))

A cell of MME or POPE holds several figures (Table 1: "625.2/270.7"); each is a :class:`Printed` of its own, named by
its ``part``. A figure's :class:`Place` is its table, group of rows, row, column and part.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, get_args

from lntune.config.experiment import SIMILARITY, Column
from lntune.errors import UserError

PAPER_COLUMNS = ("table", "group", "row", "column", "part", "value", "bold", "underline", "printed", "note")
"""The header of a file of workflow/paper."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "MME": ("perception", "cognition"),
    "POPE": ("popular", "random", "adversarial"),
}
"""The figures of a cell, in the order in which they are printed, of the columns that have several."""

INTERVAL = " 95% interval"
"""What a table's CSV calls a column's intervals, behind the column's title."""

LITERATURE = "literature"
"""What a table's CSV calls the source of a row that is not ours."""

_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*%?")
_BOUNDS = re.compile(r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)")


class Place(NamedTuple):
    """Where a figure stands."""

    table: str
    group: str
    row: str
    column: str
    part: str

    def __str__(self) -> str:
        return ", ".join(word for word in self if word)


@dataclass(frozen=True)
class Printed:
    """One figure as it is printed.

    Attributes:
        place: where it stands.
        text: as it is printed, "OOM" and "-" included.
        bounds: its 95% interval, if its table has one.
    """

    place: Place
    text: str
    bounds: tuple[float, float] | None = None

    @property
    def number(self) -> float | None:
        """The figure without its percent sign; None for what is no number."""
        found = _NUMBER.fullmatch(self.text.strip())
        return float(found[1]) if found else None


def read_paper(path: Path) -> list[Printed]:
    """The figures of one of the paper's tables.

    Raises:
        UserError: the file is not what it should be; its line is named.
    """
    found: dict[Place, Printed] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != PAPER_COLUMNS:
            raise UserError(f"{path}: its first line must be {','.join(PAPER_COLUMNS)}")
        for record in reader:
            where = f"{path}: line {reader.line_num}"
            if None in record or None in record.values():
                raise UserError(f"{where}: {len(PAPER_COLUMNS)} fields are expected; quote a field that holds commas")
            place = Place(*(record[name] for name in Place._fields))
            if place.table != path.stem:
                raise UserError(f"{where}: table is {place.table!r}, and the file is {path.name}")
            if place in found:
                raise UserError(f"{where}: {place} is there twice; keep one")
            if not record["value"]:
                raise UserError(f"{where}: {place} has no value; write what is printed")
            found[place] = Printed(place, record["value"])
    if not found:
        raise UserError(f"{path}: holds no figures")
    return list(found.values())


def read_ours(table: str, path: Path) -> list[Printed]:
    """Our figures in one of our tables or figures; rows that were taken from the literature are left out.

    Args:
        table: its name, as the paper's is called here.
        path: its CSV. A table's, or that of bars, has a line a row, with the columns ``model`` and ``method`` and one
            for each column that is shown. A heat map's has a line for each pair of layers; what is read is what the
            caption of the paper's Figure 3 and its Table 6 say of a model: the mean over pairs of different layers.

    Raises:
        UserError: a cell has not as many figures as its column.
    """
    with path.open(newline="", encoding="utf-8") as file:
        records = [record for record in csv.DictReader(file) if record.get("source") != LITERATURE]
    if records and "other_layer" in records[0]:
        return list(_mean_similarities(table, records))
    found: list[Printed] = []
    for record in records:
        for column in get_args(Column):
            if record.get(column):
                where = Place(table, record["model"], record["method"], column, "")
                found += _figures(path, where, record[column], record.get(column + INTERVAL) or "")
    return found


def _mean_similarities(table: str, records: Iterable[Mapping[str, str]]) -> Iterator[Printed]:
    pairs: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record["layer"] != record["other_layer"]:
            pairs.setdefault((record["model"], record["method"]), []).append(float(record["similarity"]))
    for (group, row), similarities in pairs.items():
        yield Printed(Place(table, group, row, SIMILARITY, ""), f"{fmean(similarities):.3f}")


def _figures(path: Path, place: Place, text: str, bounds: str) -> Iterator[Printed]:
    parts = PARTS.get(place.column, ("",))
    figures = text.split("/")
    if len(figures) == 1 and Printed(place, text).number is None:
        figures *= len(parts)  # "-" or "OOM" stands for all of them
    if len(figures) != len(parts):
        raise UserError(f"{path}: {place}: {text!r} holds {len(figures)} figures, this column's cells {len(parts)}")
    intervals = bounds.split("/") if bounds.count("/") == len(parts) - 1 else [""] * len(parts)
    for part, figure, interval in zip(parts, figures, intervals, strict=True):
        limits = _BOUNDS.fullmatch(interval)
        yield Printed(place._replace(part=part), figure, (float(limits[1]), float(limits[2])) if limits else None)
