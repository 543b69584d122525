"""What a verification found: problems, each with the cells that rest on it, and notes; as text and as JSON.

Which cell rests on which result is known from the plan, whose ids chain, so that it is known even where a manifest is
damaged or a result deleted.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from lntune.config import Frozen
from lntune.files import write_whole
from lntune.plan.node import Node, closure, is_done, result_folder
from lntune.plan.plan import Plan
from lntune.plan.targets import Target
from lntune.report.published import Shown, shown_in
from lntune.report.rows import LEARNING_RATE, ShownItemSettings
from lntune.site.record import VERIFIED
from lntune.store.manifest import remedy
from lntune.units import bytes_text, counted, seconds_text


@dataclass(frozen=True)
class Cell:
    """One cell of a table or figure; the learning rate of a row is one, too."""

    table: str
    row: str
    column: str


class Basis:
    """The results behind some targets, and all ``cells`` of those that are tables or figures, row by row."""

    def __init__(self, plan: Plan, targets: Sequence[Target]) -> None:
        self.store = plan.store
        asked = list(dict.fromkeys(target.node for target in targets))
        self.nodes = closure(asked)  # inputs before what needs them
        self.done = [node for node in self.nodes if is_done(plan.store, node)]
        self._sources = {
            cell: (node, sources)
            for node in asked
            if isinstance(node.settings, ShownItemSettings)
            for cell, sources in _cells(node, node.settings)
        }
        self.cells = tuple(self._sources)

    def made_from(self, results: Iterable[Node]) -> set[Node]:
        """These results and all that were made from them, directly or not."""
        found = set(results)
        for node in self.nodes:
            if not found.isdisjoint(node.parents()):
                found.add(node)
        return found

    def resting(self, results: Collection[Node]) -> tuple[Cell, ...]:
        """The cells that rest on any of these results: on what shows them, or on something behind the cell."""
        hit = self.made_from(results)
        return tuple(
            cell
            for cell, (report_item, sources) in self._sources.items()
            if report_item in results or not hit.isdisjoint(sources)
        )


def _cells(report_item: Node, settings: ShownItemSettings) -> Iterator[tuple[Cell, tuple[Node, ...]]]:
    """Each cell of a table or figure with the results, or the selections, that it shows; one for each seed."""
    for row in settings.rows:
        for column, nodes in settings.sources(row, report_item.players("scores")).items():
            yield Cell(settings.name, row.name, column), nodes
        if row.selections:
            yield Cell(settings.name, row.name, LEARNING_RATE), row.chosen(report_item.players("selections"))


# --- what was found --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """A file or result that is off: all that is wrong, its names in other results, and the cells that rest on it."""

    path: str
    what: tuple[str, ...]
    also: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Counts:
    """How much was looked at: results, distinct files and their bytes, scores that were made again, seconds."""

    results: int = 0
    files: int = 0
    bytes: int = 0
    scores: int = 0
    seconds: float = 0.0


@dataclass
class _Found:
    what: dict[str, None] = field(default_factory=dict)
    also: dict[str, None] = field(default_factory=dict)
    results: dict[Node, None] = field(default_factory=dict)
    cells: dict[Cell, None] | None = None


class Findings:
    """Gathers problems by path, so that a file that is off in several ways is named once; and notes, which are none."""

    def __init__(self, basis: Basis) -> None:
        self.basis = basis
        self.notes: list[str] = []
        self.reruns: list[str] = []
        self.counts = Counts()
        self.remedy = ""
        self._found: dict[str, _Found] = {}

    def problem(
        self,
        path: Path,
        what: str,
        results: Iterable[Node] = (),
        *,
        also: Iterable[Path] = (),
        cells: Collection[Cell] | None = None,
    ) -> None:
        """Note that ``path`` is off. ``cells`` are those concerned, if better known than by the results hit."""
        found = self._found.setdefault(str(path), _Found())
        found.what[what] = None
        found.also |= dict.fromkeys(map(str, also))
        found.results |= dict.fromkeys(results)
        if cells is not None:
            found.cells = (found.cells or {}) | dict.fromkeys(cells)

    def note_remedy(self) -> None:
        """Note how to make again what is off in the store by now; what is found later may follow from that."""
        store = self.basis.store
        stored = (found.results for path, found in self._found.items() if Path(path).is_relative_to(store.root))
        if not self.remedy and (off := dict.fromkeys(chain.from_iterable(stored))):
            self.remedy = remedy(*(result_folder(store, node) for node in off))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, with the cells that rest on them."""
        problems = []
        for path, found in self._found.items():
            cells = self.basis.resting(found.results) if found.cells is None else tuple(found.cells)
            problems.append(Problem(path, tuple(found.what), tuple(found.also), cells))
        return tuple(problems)

    def to_json(self) -> dict[str, Any]:
        """All that was found as JSON types."""
        problems = [asdict(problem) for problem in self.problems]
        said = {"problems": problems, "remedy": self.remedy, "notes": self.notes, "reruns": self.reruns}
        return said | {"verified": asdict(self.counts)}

    def keep(self) -> None:
        """Write down what was found for the site, unless this folder cannot be written."""
        kept = {
            "date": datetime.now(UTC).isoformat(" ", "seconds"),
            "text": self.text(),
            "results": [node.path for node in self.basis.done],
            "problems": [(problem.path, problem.what) for problem in self.problems],
        }
        with suppress(OSError):
            VERIFIED.parent.mkdir(exist_ok=True)
            write_whole(VERIFIED, json.dumps(kept, indent=1) + "\n")

    def text(self) -> str:
        """A line for each problem and below it the cells that rest on it; then the notes; last, the counts."""
        lines, problems, counts = [], self.problems, self.counts
        for problem in problems:
            also = f"; the same file is {', '.join(problem.also)}" if problem.also else ""
            lines.append(f"{problem.path}: {'; '.join(problem.what)}{also}")
            lines += [f"    {line}" for line in cells_text(problem.cells, self.basis.cells)]
        lines += [f"remedy: {self.remedy}"] if self.remedy else []
        lines += [f"note: {note}" for note in self.notes] + [f"made again: {one}" for one in self.reruns]
        lines.append(
            f"verified {counted(counts.results, 'result')}, {counted(counts.files, 'file')}, "
            f"{bytes_text(counts.bytes)}, {counted(counts.scores, 'score')} in {seconds_text(counts.seconds)}: "
            + (counted(len(problems), "problem") if problems else "all right")
        )
        return "\n".join(lines)


# --- cells as text ---------------------------------------------------------------------------------------------------

_MOST_ROWS = 3


def cells_text(chosen: Collection[Cell], known: Sequence[Cell]) -> list[str]:
    """The chosen cells of all known ones in a few lines: whole tables, then columns of all rows, then rows."""
    lines = []
    for table in dict.fromkeys(cell.table for cell in known):
        whole, mine = (_by_row(cell for cell in cells if cell.table == table) for cells in (known, chosen))
        complete = [row for row, columns in mine.items() if _figures(columns) == _figures(whole.get(row, []))]
        if len(complete) == len(mine) == len(whole):
            number = sum(len(_figures(columns)) for columns in whole.values())
            lines.append(f"all {number} cells of {table}" if number > 1 else f"the one cell of {table}")
            continue
        alike: dict[str, list[str]] = {}
        for row, columns in mine.items():
            alike.setdefault("the whole row" if row in complete else ", ".join(columns), []).append(row)
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


def differing_cells(settings: Frozen, one: Path, other: Path) -> list[Cell] | None:
    """The cells that two versions of a table's or figure's file show differently; None if that cannot be told."""
    if not isinstance(settings, ShownItemSettings):
        return None
    try:
        first, second = _shown(one), _shown(other)
    except (ValueError, KeyError, TypeError, OSError):
        return None
    rows = {row.name for row in settings.rows}
    if not rows <= {row for row, _ in first} or first.keys() != second.keys():
        return None
    return [Cell(settings.name, row, column) for (row, column), text in first.items() if second[row, column] != text]


def _shown(path: Path) -> Shown:
    """As :func:`lntune.report.published.shown_in`; of cells.json, all that it says of each cell."""
    if path.suffix != ".json":
        return shown_in(path)
    return {(one["row"], one["column"]): json.dumps(one, sort_keys=True) for one in json.loads(path.read_bytes())}
