"""How a table is laid out for any format to write: its header, its groups of lines, the values of each cell, emphasis.

``groups`` is the look of the paper's Tables 1, 3, 4 and 5: the title of a group, then its rows. ``groups-across`` is
that of Table 2: a line for each row's title, and the groups side by side. ``rows-across`` is that of Tables 6 and A1: a
line for each group, and its rows side by side. What a group does not have is an empty cell. Emphasised are the best and
the second best value of a group, column by column.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal, NamedTuple

from lntune.errors import UserError
from lntune.report.cells import Cell, number

Emphasis = Literal["best-and-second", "best", "none"]
Mark = Literal["best", "second", "none"]

LOWER_IS_BETTER = frozenset({"Mem. (GB)", "#param.", "Similarity"})
"""Columns whose lowest value is the best; of all others it is the highest."""


def marks(cells: Sequence[Cell], emphasis: Emphasis, *, lower_is_better: bool = False) -> list[tuple[Mark, ...]]:
    """How each value of a column of one group is marked, as Table 1 of the paper marks them.

    Values are ranked as they are written: those that are written alike are not told apart. What is no number ("-",
    "OOM") has no rank. The best is marked if there are at least two different values, the second if there are three.
    """
    by_part = zip_longest(*(cell.parts for cell in cells), fillvalue="")
    ranks = [_ranks(texts, emphasis, lower_is_better) for texts in by_part]
    marked = [zip(cell.parts, ranks, strict=False) for cell in cells]
    return [tuple(its.get(_finite(text), "none") for text, its in one) for one in marked]


def _ranks(texts: Sequence[str], emphasis: Emphasis, lower_is_better: bool) -> dict[float | None, Mark]:
    values = {value for value in map(_finite, texts) if value is not None}
    found = sorted(values, reverse=not lower_is_better)
    marked: dict[Emphasis, tuple[Mark, ...]] = {"none": (), "best": ("best",), "best-and-second": ("best", "second")}
    return dict(zip(found[:-1], marked[emphasis], strict=False))


def _finite(text: str) -> float | None:
    value = number(text)
    return value if value is not None and math.isfinite(value) else None


Layout = Literal["groups", "groups-across", "rows-across"]

LITERATURE_NOTE = "As the paper prints them, taken from the literature or from released checkpoints; not ours."
"""The note on titles that are marked as literature."""


@dataclass(frozen=True)
class TableRow:
    """One row of one group, with a cell for each column; ``literature``: as the paper prints it, and not ours."""

    group: str
    title: str
    cells: tuple[Cell, ...]
    literature: bool = False


class ShownValue(NamedTuple):
    """One value of a cell: as it is written, how it is marked, and the two ends of its interval if that is shown."""

    text: str
    mark: Mark = "none"
    bounds: tuple[str, str] | None = None


ShownCell = tuple[ShownValue, ...]
"""A cell: its values, which are written with slashes between them; () where there is no result."""


class Title(NamedTuple):
    """A title, the number of columns that it stands over, and whether what it names is from the literature."""

    text: str
    span: int = 1
    literature: bool = False


class Line(NamedTuple):
    """A line of the table: its title, and a cell for each of the other columns."""

    title: Title
    cells: tuple[ShownCell, ...]


class Block(NamedTuple):
    """Lines that stand together, under a title if they have one."""

    title: str | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class LaidOut:
    """A table: one line of titles or two, the upper with titles that span columns, and what stands under it.

    A line begins with the title of the column that names lines; where there are two, the upper one's is empty.
    """

    header: tuple[tuple[Title, ...], ...]
    blocks: tuple[Block, ...]

    @property
    def columns(self) -> int:
        """How many columns there are, that of the lines' titles included."""
        return len(self.header[-1])

    @property
    def literature(self) -> bool:
        """Whether something is from the literature."""
        titles = [title for line in self.header for title in line] + [line.title for line in self.lines()]
        return any(title.literature for title in titles)

    @property
    def intervals(self) -> bool:
        """Whether an interval is shown."""
        return any(value.bounds for line in self.lines() for values in line.cells for value in values)

    def lines(self) -> Iterator[Line]:
        """All lines, whatever block they are in."""
        for block in self.blocks:
            yield from block.lines


def lay_out(
    rows: Sequence[TableRow], columns: Sequence[str], layout: Layout, emphasis: Emphasis, *, intervals: bool = False
) -> LaidOut:
    """A table of these rows, at least one, in the order in which they and their groups are to stand.

    ``columns`` are the titles of the cells. A group from the literature is one of its own whatever its title, and
    nothing in it is marked. Raises UserError if a group has two rows of one title.
    """
    groups = _groups(rows, columns, emphasis, intervals)
    if layout == "groups":
        blocks = [
            Block(group, tuple(Line(Title(title, 1, literature), cells) for title, cells in its.items()))
            for (group, literature), its in groups.items()
        ]
        return LaidOut((tuple(map(Title, ("Method", *columns))),), tuple(blocks))
    titles, empty = list(dict.fromkeys(title for its in groups.values() for title in its)), ((),) * len(columns)
    if layout == "groups-across":
        first, over = "Method", [Title(group, len(columns), literature) for group, literature in groups]
        named = [(Title(title), [its.get(title, empty) for its in groups.values()]) for title in titles]
    else:
        first, over = "Model", [Title(title, len(columns)) for title in titles]
        named = [
            (Title(group, 1, literature), [its.get(title, empty) for title in titles])
            for (group, literature), its in groups.items()
        ]
    lines = [Line(title, tuple(chain.from_iterable(cells))) for title, cells in named]
    return LaidOut(_header(first, over, columns), (Block(None, tuple(lines)),))


def _groups(
    rows: Sequence[TableRow], columns: Sequence[str], emphasis: Emphasis, intervals: bool
) -> dict[tuple[str, bool], dict[str, tuple[ShownCell, ...]]]:
    """What each group's rows show, by title; groups by title and whether they are from the literature."""
    found: dict[tuple[str, bool], dict[str, TableRow]] = {}
    for row in rows:
        its = found.setdefault((row.group, row.literature), {})
        if row.title in its:
            raise UserError(f"{row.group}: two rows are called {row.title!r}; give them different titles")
        its[row.title] = row
    shown = {}
    for (group, literature), its in found.items():
        by_column = zip(*(row.cells for row in its.values()), strict=True)
        marked = [
            marks(cells, "none" if literature else emphasis, lower_is_better=column in LOWER_IS_BETTER)
            for column, cells in zip(columns, by_column, strict=True)
        ]
        shown[group, literature] = {
            title: tuple(_shown_cell(cell, marked[place][at], intervals) for place, cell in enumerate(row.cells))
            for at, (title, row) in enumerate(its.items())
        }
    return shown


def _shown_cell(cell: Cell, its_marks: tuple[Mark, ...], intervals: bool) -> ShownCell:
    if cell.text == cell.parts[0] and number(cell.text) is None:
        return (ShownValue(cell.text),) if cell.text else ()
    return tuple(
        ShownValue(one.text, mark, cell.ends(one.interval) if intervals else None)
        for one, mark in zip(cell.values, its_marks, strict=True)
    )


def _header(first: str, over: Sequence[Title], columns: Sequence[str]) -> tuple[tuple[Title, ...], ...]:
    """The columns' titles under each of ``over``; what stands over a single column is that column's title."""
    if len(columns) == 1:
        return ((Title(first), *over),)
    return ((Title(""), *over), (Title(first), *(Title(column) for _ in over for column in columns)))
