"""What tables print, one value each: the paper's tables, transcribed, and ours, in the same terms.

    paper = read_paper(Path("workflow/paper/table1.csv"))
    ours = read_ours("table1", Path("results/table/table1-0123456789ab"))

A cell may hold several values (Table 1, MME: "625.2/270.7"); each is a :class:`Printed` of its own, named by
its ``part``. A value's :class:`Place` is its table, group of rows, row, column and part.

The stages that compare our tables with the paper's share their settings: each of the paper's files by its sha256, so
that an edit remakes what rests on it, and the names of our tables.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from lntune.config import Frozen, Hash
from lntune.errors import UserError

PAPER_COLUMNS = ("table", "group", "row", "column", "part", "value", "bold", "underline", "printed", "note")
"""The header of a file of workflow/paper."""

INTERVAL = " 95% interval"
"""What a table's CSV calls a column's intervals, behind the column's title."""

CELLS = "cells.json"
"""The file of a table or figure that holds the text of each of our cells."""

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
    """One figure as printed, "OOM" and "-" included, its 95% interval, if its table has one, and why it is "-"."""

    place: Place
    text: str
    bounds: tuple[float, float] | None = None
    note: str = ""

    @property
    def number(self) -> float | None:
        """The figure without its percent sign; None for what is no number."""
        found = _NUMBER.fullmatch(self.text.strip())
        return float(found[1]) if found else None


def read_paper(path: Path) -> list[Printed]:
    """The figures of one of the paper's tables; UserError names the line if the file is not what it should be."""
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


def read_ours(name: str, folder: Path) -> list[Printed]:
    """Our figures in the result of a table or figure; what a table shows of the literature is none of them.

    What cells say is read from cells.json, since a figure's CSV holds what is drawn (heat maps: a number for each pair
    of layers; bars: the sum of MME's two); groups, rows and intervals from NAME.csv. UserError if a cell has not as
    many figures as its column.
    """
    path = folder / f"{name}.csv"
    rows: dict[str, tuple[str, str]] = {}
    bounds: dict[tuple[str, str], str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(file):
            row = f"{record['model']}: {record['method']}"
            rows[row] = (record["model"], record["method"])
            intervals = {title: text for title, text in record.items() if text and title.endswith(INTERVAL)}
            bounds |= {(row, title.removesuffix(INTERVAL)): text for title, text in intervals.items()}
    found: list[Printed] = []
    for cell in json.loads((folder / CELLS).read_text(encoding="utf-8")):
        row, column = cell["row"], cell["column"]
        place, interval = Place(name, *rows[row], column, ""), bounds.get((row, column), "")
        its = _figures(path, place, cell["value"], cell["parts"], interval)
        found += [replace(one, note=cell.get("note", "")) for one in its]
    return found


def _figures(path: Path, place: Place, text: str, parts: Sequence[str], bounds: str) -> Iterator[Printed]:
    figures = text.split("/")
    if len(figures) == 1 and Printed(place, text).number is None:
        figures *= len(parts)  # "-" or "OOM" stands for all of them
    if len(figures) != len(parts):
        raise UserError(f"{path}: {place}: {text!r} holds {len(figures)} figures, this column's cells {len(parts)}")
    intervals = bounds.split("/") if bounds.count("/") == len(parts) - 1 else [""] * len(parts)
    for part, figure, interval in zip(parts, figures, intervals, strict=True):
        limits = _BOUNDS.fullmatch(interval)
        yield Printed(place._replace(part=part), figure, (float(limits[1]), float(limits[2])) if limits else None)


PAPER = Path("workflow") / "paper"
CLAIMS = "claims.yaml"


def paper_files(root: Path, *, claims: bool = True) -> dict[str, Path]:
    """Every file of workflow/paper by name, the claims among them if they are wanted; UserError if there are none."""
    found = {path.name: path for path in sorted((root / PAPER).glob("*.csv"))}
    if not found:
        raise UserError(f"{root / PAPER}: holds no table of the paper; restore it from the repository")
    if claims:
        found[CLAIMS] = root / PAPER / CLAIMS
    return found


def printed_names(files: Iterable[str]) -> list[str]:
    """The tables and figures of which the paper prints numbers, by the names of its files."""
    return [Path(name).stem for name in files if name.endswith(".csv")]


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """The sha256 of each file; UserError if one is not there."""
    try:
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; restore it from the repository") from None


class Settings(Frozen):
    """Of a stage that compares: the paper's files by digest, and our tables in the order of the inputs."""

    files: dict[str, Hash] = Field(min_length=1)
    tables: tuple[str, ...] = Field(strict=False)
    scale: str
    scale_note: str
    protocol: str


class Execution(Frozen):
    """Where the paper's files lie."""

    paths: dict[str, str]


def check(paths: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, Path]:
    """Name to path; UserError if a file is not there, or not the one that was planned with."""
    found = {name: Path(paths[name]) for name in expected}
    for name, sha256 in digests(found).items():
        if sha256 != expected[name]:
            raise UserError(f"{found[name]}: was edited since the run started; start the run again")
    return found


def read_tables(files: Mapping[str, Path]) -> dict[str, list[Printed]]:
    """Table to the paper's figures."""
    return {path.stem: read_paper(path) for name, path in files.items() if name.endswith(".csv")}


def read_own(tables: Sequence[str], folders: Sequence[Path]) -> dict[str, list[Printed]]:
    """Table or figure to our figures; each lies in its result's folder."""
    return {name: read_ours(name, folder) for name, folder in zip(tables, folders, strict=True)}
