"""What tables print, one figure each: the paper's tables, transcribed, and ours, in the same terms.

    paper = read_paper(Path("workflow/paper/table1.csv"))
    ours = read_ours("table1", Path("tables/table1.csv"), paper)

A cell of MME or POPE holds several figures (Table 1: "625.2/270.7"); each is a :class:`Printed` of its own, named by
its ``part``. A figure's :class:`Place` is its table, group of rows, row, column and part.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lntune.errors import UserError

PAPER_COLUMNS = ("table", "group", "row", "column", "part", "value", "bold", "underline", "printed", "note")
"""The header of a file of workflow/paper."""

INTERVAL = " 95% interval"
"""What a table's CSV calls a column's intervals, behind the column's title."""

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


def parts_of(paper: Iterable[Printed]) -> dict[str, tuple[str, ...]]:
    """Column to the parts of its cells, in the order in which they are printed."""
    parts: dict[str, dict[str, None]] = {}
    for one in paper:
        parts.setdefault(one.place.column, {})[one.place.part] = None
    # A cell that is printed as "-" has no parts, though its column's other cells do.
    return {column: tuple(part for part in found if part) or ("",) for column, found in parts.items()}


def read_ours(table: str, path: Path, paper: Sequence[Printed]) -> list[Printed]:
    """The figures of one of our tables, of the columns that the paper's table has.

    Args:
        table: its name, as the paper's is called here.
        path: its CSV, a line a row, with the columns ``model`` and ``method`` and one for each benchmark.
        paper: the paper's figures of that table, which name columns and parts.

    Raises:
        UserError: a cell has not as many figures as the paper's.
    """
    parts = parts_of(paper)
    found: list[Printed] = []
    with path.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            group, row = record.get("model") or "", record.get("method") or ""
            for column in parts:
                if record.get(column):
                    bounds = record.get(column + INTERVAL) or ""
                    where = Place(table, group, row, column, "")
                    found += _figures(path, where, parts[column], record[column], bounds)
    return found


def _figures(path: Path, place: Place, parts: Sequence[str], text: str, bounds: str) -> Iterator[Printed]:
    figures = text.split("/")
    if len(figures) == 1 and Printed(place, text).number is None:
        figures *= len(parts)  # "-" or "OOM" stands for all of them
    if len(figures) != len(parts):
        raise UserError(f"{path}: {place}: {text!r} holds {len(figures)} figures, and the paper's cells {len(parts)}")
    intervals = bounds.split("/") if bounds.count("/") == len(parts) - 1 else [""] * len(parts)
    for part, figure, interval in zip(parts, figures, intervals, strict=True):
        limits = _BOUNDS.fullmatch(interval)
        yield Printed(place._replace(part=part), figure, (float(limits[1]), float(limits[2])) if limits else None)
