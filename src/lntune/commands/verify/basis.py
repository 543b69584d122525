"""What the targets of a verification rest on: the results behind them, and which cell rests on which.

It follows the plan, whose ids chain, so that it knows the way even where a manifest is damaged or a result deleted.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lntune.plan.node import Node, closure, is_done, result_folder
from lntune.plan.plan import Plan
from lntune.plan.targets import Target
from lntune.report.rows import LEARNING_RATE, ShownItemSettings


@dataclass(frozen=True)
class Cell:
    """One cell of a table or figure; the learning rate of a row is one, too."""

    table: str
    row: str
    column: str


class Basis:
    """The results behind some targets.

    Attributes:
        store: where they lie.
        nodes: all of them, inputs before what needs them.
        done: those that are there.
        cells: all cells of the targets that are tables or figures, one after the other, row by row.
    """

    def __init__(self, plan: Plan, targets: Sequence[Target]) -> None:
        self.store = plan.store
        asked = list(dict.fromkeys(target.node for target in targets))
        self.nodes = closure(asked)
        self.done = [node for node in self.nodes if is_done(plan.store, node)]
        self._bit = {node: 1 << place for place, node in enumerate(self.nodes)}
        self._behind: dict[Node, int] = {}
        for node in self.nodes:
            self._behind[node] = self._bit[node]
            for parent in node.parents():
                self._behind[node] |= self._behind[parent]
        report_items = [node for node in asked if isinstance(node.settings, ShownItemSettings)]
        self._sources = {
            cell: (report_item, sources) for report_item in report_items for cell, sources in _cells(report_item)
        }

    @property
    def cells(self) -> list[Cell]:
        """As above."""
        return list(self._sources)

    def folder(self, node: Node) -> Path:
        """Where a result lies."""
        return result_folder(self.store, node)

    def rests(self, node: Node, on: Node) -> bool:
        """Whether a result is, or was made from, another, directly or not."""
        return bool(self._behind[node] & self._bit[on])

    def resting(self, results: Iterable[Node]) -> list[Cell]:
        """The cells that rest on any of these results: on what shows them, or on something behind the cell."""
        given = list(results)
        bits = 0
        for node in given:
            bits |= self._bit[node]
        return [
            cell
            for cell, (report_item, sources) in self._sources.items()
            if report_item in given or any(self._behind[source] & bits for source in sources)
        ]


def _cells(report_item: Node) -> Iterator[tuple[Cell, tuple[Node, ...]]]:
    """Each cell of a table or figure with the results, or the selections, that it shows; one for each seed."""
    settings = report_item.settings
    assert isinstance(settings, ShownItemSettings)
    scores, selections = report_item.inputs["scores"], report_item.inputs["selections"]
    assert isinstance(scores, tuple) and isinstance(selections, tuple)
    for row in settings.rows:
        for column, nodes in settings.sources(row, scores).items():
            yield Cell(settings.name, row.name, column), nodes
        if row.selections:
            yield Cell(settings.name, row.name, LEARNING_RATE), row.chosen(selections)


def name(node: Node) -> str:
    """A result's folder, below the store."""
    return f"{node.stage}/{node.name}"


_MOST_ROWS = 3


def cells_text(chosen: Collection[Cell], known: Sequence[Cell]) -> list[str]:
    """The chosen cells of all known ones in a few lines: whole tables, then columns of all rows, then rows."""
    lines = []
    for table in dict.fromkeys(cell.table for cell in known):
        whole = _by_row(cell for cell in known if cell.table == table)
        mine = _by_row(cell for cell in chosen if cell.table == table)
        if {row: _figures(columns) for row, columns in mine.items()} == {
            row: _figures(columns) for row, columns in whole.items()
        }:
            number = sum(len(_figures(columns)) for columns in whole.values())
            lines.append(f"all {number} cells of {table}" if number > 1 else f"the one cell of {table}")
            continue
        alike: dict[str, list[str]] = {}
        for row, columns in mine.items():
            complete = _figures(columns) == _figures(whole.get(row, []))
            alike.setdefault("the whole row" if complete else ", ".join(columns), []).append(row)
        for text, rows in alike.items():
            if len(rows) == len(whole) > 1:
                lines.append(f"{table}: {text} of all {len(rows)} rows")
                continue
            lines += [f"{table}: {row}: {text}" for row in rows[:_MOST_ROWS]]
            if len(rows) > _MOST_ROWS:
                lines.append(f"{table}: ... and {len(rows) - _MOST_ROWS} more rows")
    return lines


def _by_row(cells: Iterable[Cell]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(cell.row, []).append(cell.column)
    return found


def _figures(columns: Sequence[str]) -> list[str]:
    """The columns without the learning rate, unless there is nothing else, as in a figure of curves."""
    return [column for column in columns if column != LEARNING_RATE] or list(columns)
