"""How a table is laid out for any format to write: its header, its groups of lines, the values of each cell, emphasis.

``groups`` is the look of the paper's Tables 1, 3, 4 and 5: the title of a group, then its rows. ``groups-across`` is
that of Table 2: a line for each row's title, and the groups side by side. ``rows-across`` is that of Tables 6 and A1: a
line for each group, and its rows side by side. What a group does not have is an empty cell. Emphasised are the best and
the second best value of a group, column by column.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lntune.errors import UserError
from lntune.report.cells import Cell, Value, number

Emphasis = Literal["best-and-second", "best", "none"]
Mark = Literal["best", "second", "none"]

LOWER_IS_BETTER = frozenset({"Mem. (GB)", "#param.", "Similarity"})
"""Columns whose lowest value is the best; of all others it is the highest."""


def marks(cells: Sequence[Cell], emphasis: Emphasis, *, lower_is_better: bool = False) -> list[tuple[Mark, ...]]:
    """How each value of a column of one group is marked, as Table 1 of the paper marks them.

    Values are ranked as they are written: those that are written alike are not told apart. What is no number ("-",
    "OOM") has no rank. The best is marked if there are at least two different values, the second if there are three.

    Args:
        cells: the column's cells, each with as many values.
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
    """A table.

    Attributes:
        header: one line or two, the upper with titles that span several columns. Each begins with the title of the
            column that names lines; where there are two, the upper one's is empty.
        blocks: what stands under it.
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


class _Group(NamedTuple):
    """A group's rows by title, each with what its cells show."""

    title: str
    literature: bool
    rows: dict[str, tuple[ShownCell, ...]]


def lay_out(
    rows: Sequence[TableRow], columns: Sequence[str], layout: Layout, emphasis: Emphasis, *, intervals: bool = False
) -> LaidOut:
    """A table of these rows.

    Args:
        rows: in the order in which they and their groups are to stand; at least one. A group from the literature is
            one of its own whatever its title, and nothing in it is marked.
        columns: the titles of the cells.
        layout: where groups and rows go.
        emphasis: what is marked, within a group and for each value of a column.
        intervals: whether values show theirs.

    Raises:
        UserError: a group has two rows of one title.
    """
    groups = _groups(rows, columns, emphasis, intervals)
    return {"groups": _in_groups, "groups-across": _groups_across, "rows-across": _rows_across}[layout](groups, columns)


def _groups(rows: Sequence[TableRow], columns: Sequence[str], emphasis: Emphasis, intervals: bool) -> list[_Group]:
    found: dict[tuple[str, bool], list[TableRow]] = {}
    for row in rows:
        its = found.setdefault((row.group, row.literature), [])
        if row.title in [other.title for other in its]:
            raise UserError(f"{row.group}: two rows are called {row.title!r}; give them different titles")
        its.append(row)
    return [
        _Group(title, literature, _shown(its, columns, "none" if literature else emphasis, intervals))
        for (title, literature), its in found.items()
    ]


def _shown(
    rows: Sequence[TableRow], columns: Sequence[str], emphasis: Emphasis, intervals: bool
) -> dict[str, tuple[ShownCell, ...]]:
    """The rows of one group by title, with the values of each cell."""
    marked = [
        marks([row.cells[place] for row in rows], emphasis, lower_is_better=column in LOWER_IS_BETTER)
        for place, column in enumerate(columns)
    ]
    return {
        row.title: tuple(_shown_cell(cell, marked[place][at], intervals) for place, cell in enumerate(row.cells))
        for at, row in enumerate(rows)
    }


def _shown_cell(cell: Cell, its_marks: tuple[Mark, ...], intervals: bool) -> ShownCell:
    if cell.text == cell.parts[0] and number(cell.text) is None:
        return (ShownValue(cell.text),) if cell.text else ()
    return tuple(
        ShownValue(one.text, mark, _ends(one, cell.decimals) if intervals else None)
        for one, mark in zip(cell.values, its_marks, strict=True)
    )


def _ends(value: Value, decimals: int | None) -> tuple[str, str] | None:
    interval = value.interval
    return None if interval is None else (f"{interval[0]:.{decimals}f}", f"{interval[1]:.{decimals}f}")


def _in_groups(groups: Sequence[_Group], columns: Sequence[str]) -> LaidOut:
    blocks = [
        Block(group.title, tuple(Line(Title(title, 1, group.literature), cells) for title, cells in group.rows.items()))
        for group in groups
    ]
    return LaidOut((tuple(Title(text) for text in ("Method", *columns)),), tuple(blocks))


def _groups_across(groups: Sequence[_Group], columns: Sequence[str]) -> LaidOut:
    over = [Title(group.title, len(columns), group.literature) for group in groups]
    lines = [
        Line(Title(title), tuple(cell for group in groups for cell in _cells(group, title, columns)))
        for title in _row_titles(groups)
    ]
    return LaidOut(_header("Method", over, columns), (Block(None, tuple(lines)),))


def _rows_across(groups: Sequence[_Group], columns: Sequence[str]) -> LaidOut:
    titles = _row_titles(groups)
    over = [Title(title, len(columns)) for title in titles]
    lines = [
        Line(
            Title(group.title, 1, group.literature),
            tuple(cell for title in titles for cell in _cells(group, title, columns)),
        )
        for group in groups
    ]
    return LaidOut(_header("Model", over, columns), (Block(None, tuple(lines)),))


def _row_titles(groups: Sequence[_Group]) -> list[str]:
    return list(dict.fromkeys(title for group in groups for title in group.rows))


def _cells(group: _Group, title: str, columns: Sequence[str]) -> tuple[ShownCell, ...]:
    return group.rows.get(title, ((),) * len(columns))


def _header(first: str, over: Sequence[Title], columns: Sequence[str]) -> tuple[tuple[Title, ...], ...]:
    """The columns' titles under each of ``over``; what stands over a single column is that column's title."""
    if len(columns) == 1:
        return ((Title(first), *over),)
    return ((Title(""), *over), (Title(first), *(Title(column) for _ in over for column in columns)))
