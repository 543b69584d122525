"""Our tables compared with the paper's, value by value, and whether the methods come out in the same order.

    compared = compare(paper, ours)
    compared[0].difference, compared[0].inside      # of one value
    orders(compared)                                # Kendall's tau-b for each group and column

The comparison is written as CSV and as Markdown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from pathlib import Path

from lntune.paper.printed import Place, Printed
from lntune.report import published


@dataclass(frozen=True)
class Compared:
    """One figure of the paper and ours in its place, if we have one."""

    paper: Printed
    ours: Printed | None

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.paper.place

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in the table's own unit."""
        if self.ours is None or self.ours.number is None or self.paper.number is None:
            return None
        return self.ours.number - self.paper.number

    @property
    def inside(self) -> bool | None:
        """Whether the paper's figure lies in our 95% interval; None without one."""
        if self.ours is None or self.ours.bounds is None or self.paper.number is None:
            return None
        return self.ours.bounds[0] <= self.paper.number <= self.ours.bounds[1]


@dataclass(frozen=True)
class Order:
    """How alike the rows of one group are ordered by one figure, of those rows that have it on both sides.

    ``tau`` is Kendall's tau-b: 1 the same order, -1 the reverse; None if one side has fewer than two different values.
    """

    table: str
    group: str
    column: str
    part: str
    tau: float | None
    rows: int


def compare(paper: Sequence[Printed], ours: Sequence[Printed]) -> list[Compared]:
    """Every figure of the paper's, in its order, with ours."""
    found = {one.place: one for one in ours}
    return [Compared(one, found.get(one.place)) for one in paper]


def tau_b(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of two rankings of the same things, with ties (Kendall 1945).

    Concordant minus discordant pairs, over the geometric mean of the pairs that are not tied in ``a`` and of those that
    are not tied in ``b``. None if all pairs are tied in one of the two.
    """
    concordance = untied_a = untied_b = 0
    for (a1, b1), (a2, b2) in combinations(zip(a, b, strict=True), 2):
        up_a, up_b = (a1 > a2) - (a1 < a2), (b1 > b2) - (b1 < b2)
        concordance += up_a * up_b
        untied_a += up_a != 0
        untied_b += up_b != 0
    return concordance / sqrt(untied_a * untied_b) if untied_a and untied_b else None


def _figure(one: Compared) -> tuple[str, str, str, str]:
    """All of a place but its row."""
    return one.place.table, one.place.group, one.place.column, one.place.part


def orders(compared: Sequence[Compared]) -> list[Order]:
    """For each group and figure how the rows are ordered on the two sides, where there is anything of ours."""
    pairs: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for one in compared:
        if one.ours is not None and one.ours.number is not None and one.paper.number is not None:
            pairs.setdefault(_figure(one), []).append((one.paper.number, one.ours.number))
    return [Order(*key, tau_b(*zip(*both, strict=True)), len(both)) for key, both in pairs.items()]


COLUMNS = (
    "table", "group", "row", "column", "part", "paper", "ours", "difference", "ours_low", "ours_high",
    "paper_in_interval", "kendall_tau_b", "rows_ordered",
)  # fmt: skip
"""The CSV's header; the last two are of the figure's group and column."""

Rows = list[tuple[str, ...]]


def write_csv(path: Path, compared: Sequence[Compared]) -> None:
    """Every figure of the paper's tables that are compared, a line each."""
    found = {(one.table, one.group, one.column, one.part): one for one in orders(compared)}
    lines: list[Sequence[str]] = [COLUMNS]
    for one in compared:
        order = found.get(_figure(one))
        bounds = one.ours.bounds if one.ours and one.ours.bounds else ("", "")
        row = [*one.place, one.paper.text, one.ours.text if one.ours else "", signed(one), *map(str, bounds)]
        inside = {None: "", True: "yes", False: "no"}[one.inside]
        lines.append([*row, inside, _tau(order), str(order.rows) if order else ""])
    published.write_csv(path, lines)


def signed(one: Compared) -> str:
    """The difference with as many digits as the side with fewer has: more would not mean anything."""
    if one.ours is None or one.difference is None:
        return ""
    digits = min(len(text.strip("% ").partition(".")[2]) for text in (one.paper.text, one.ours.text))
    return f"{one.difference:+.{digits}f}"


def _tau(order: Order | None) -> str:
    return "" if order is None or order.tau is None else f"{order.tau:.2f}"


def figure_rows(compared: Sequence[Compared]) -> Rows:
    """Group, row, and for each column the paper's cell, ours and the difference, parts with slashes between them."""
    cells: dict[tuple[str, str], dict[str, list[Compared]]] = {}
    for one in compared:
        cells.setdefault((one.place.group, one.place.row), {}).setdefault(one.place.column, []).append(one)
    columns = list(dict.fromkeys(one.place.column for one in compared))
    header = ("group", "row", *(f"{column}: paper, ours, difference" for column in columns))
    rows: Rows = [header]
    for (group, row), by_column in cells.items():
        if any(one.ours for found in by_column.values() for one in found):
            rows.append((group, row, *(_cell(by_column.get(column, [])) for column in columns)))
    return rows


def _cell(found: Sequence[Compared]) -> str:
    ours = [one.ours.text for one in found if one.ours]
    if len(ours) < len(found) or not found:
        return ""
    differences = [signed(one) or "-" for one in found]
    marks = "".join(" *" for one in found[:1] if all(each.inside for each in found))
    return f"{'/'.join(one.paper.text for one in found)}, {'/'.join(ours)}, {'/'.join(differences)}{marks}"


def order_rows(compared: Sequence[Compared]) -> Rows:
    """Group, column, Kendall's tau-b for each part, and the number of rows."""
    found: dict[tuple[str, str], list[Order]] = {}
    for one in orders(compared):
        found.setdefault((one.group, one.column), []).append(one)
    rows: Rows = [("group", "column", "Kendall's tau-b", "rows")]
    for (group, column), its in found.items():
        if its[0].rows > 1:
            rows.append((group, column, "/".join(_tau(one) or "-" for one in its), str(its[0].rows)))
    return rows


def summary(compared: Sequence[Compared]) -> str:
    """How many figures there are, how many lie in our intervals, and how alike the orders are."""
    there = [one for one in compared if one.ours is not None]
    taus = [one.tau for one in orders(compared) if one.tau is not None]
    intervals = [one.inside for one in compared if one.inside is not None]
    text = f"{len(there)} of the paper's {len(compared)} figures have ours beside them"
    if intervals:
        text += f"; {sum(intervals)} of {len(intervals)} lie in our 95% interval (marked *)"
    if taus:
        text += f"; mean of Kendall's tau-b over {len(taus)} groups and columns: {sum(taus) / len(taus):.2f}"
    return text + "."


def without_model(compared: Sequence[Compared]) -> list[str]:
    """A sentence on each of our rows that has no figures because training diverged or was stopped."""
    rows = {f"{one.place.group}: {one.place.row}": one.ours.note for one in compared if one.ours and one.ours.note}
    return [f"{row} has no figures of ours: training {note}." for row, note in rows.items()]


def by_table(compared: Sequence[Compared]) -> dict[str, list[Compared]]:
    """The figures of each table."""
    found: dict[str, list[Compared]] = {}
    for one in compared:
        found.setdefault(one.place.table, []).append(one)
    return found


TITLE = "Our tables beside the paper's"
HOW = (
    "Each cell: the paper's, ours, the difference. An asterisk: the paper's value lies in our 95% interval. Kendall's "
    "tau-b: how alike the rows of a group are ordered, 1 for the same order, -1 for the reverse."
)


def markdown(compared: Sequence[Compared], *notes: str) -> str:
    """All tables, each with its orders; ``notes`` are paragraphs under the title, empty ones left out."""
    lines = [line for paragraph in (f"# {TITLE}", *notes, HOW) if paragraph for line in (paragraph, "")]
    for table, its in by_table(compared).items():
        lines += [f"## {table}", "", summary(its), ""]
        lines += [line for note in without_model(its) for line in (note, "")]
        for rows in (figure_rows(its), order_rows(its)):
            if len(rows) > 1:
                escaped = ([cell.replace("*", r"\*") for cell in row] for row in rows[1:])
                lines += [*published.table_lines(rows[0], escaped), ""]
    return "\n".join(lines).rstrip() + "\n"
