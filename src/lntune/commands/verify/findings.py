"""What a verification found: problems, each with the cells that rest on it, and notes; as text and as JSON."""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lntune.commands.verify.basis import Basis, Cell, cells_text
from lntune.config import Frozen
from lntune.plan.node import Node
from lntune.report.published import Shown, shown_in
from lntune.report.rows import ShownItemSettings
from lntune.units import bytes_text, counted, seconds_text


@dataclass(frozen=True)
class Problem:
    """A file or a result that is off.

    Attributes:
        path: where it lies.
        what: all that is wrong with it, in words.
        also: other names of the same file, in results that share it.
        cells: the cells of the targets that rest on it.
    """

    path: str
    what: tuple[str, ...]
    also: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Counts:
    """How much was looked at: results, distinct files and their bytes, scores that were made again, seconds."""

    results: int
    files: int
    bytes: int
    scores: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """Everything that a verification found; all is right if there are no problems, whatever the notes say."""

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    counts: Counts
    cells: tuple[Cell, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
            "verified": asdict(self.counts),
        }

    def text(self) -> str:
        """A line for each problem and below it the cells that rest on it; then the notes; last, the counts."""
        lines = []
        for problem in self.problems:
            also = f"; the same file is {', '.join(problem.also)}" if problem.also else ""
            lines.append(f"{problem.path}: {'; '.join(problem.what)}{also}")
            lines += [f"    {line}" for line in cells_text(problem.cells, self.cells)]
        lines += [f"note: {note}" for note in self.notes]
        counts = self.counts
        lines.append(
            f"verified {counted(counts.results, 'result')}, {counted(counts.files, 'file')}, "
            f"{bytes_text(counts.bytes)}, {counted(counts.scores, 'score')} in {seconds_text(counts.seconds)}: "
            + (counted(len(self.problems), "problem") if self.problems else "all right")
        )
        return "\n".join(lines)


@dataclass
class _Found:
    what: dict[str, None] = field(default_factory=dict)
    also: dict[str, None] = field(default_factory=dict)
    results: dict[Node, None] = field(default_factory=dict)
    cells: dict[Cell, None] | None = None


class Findings:
    """Gathers problems by path, so that a file that is off in several ways is named once."""

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}
        self.notes: list[str] = []

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

    def report(self, basis: Basis, counts: Counts) -> Report:
        """All that was gathered, with the cells that rest on it."""
        problems = tuple(
            Problem(
                path,
                tuple(found.what),
                tuple(found.also),
                tuple(basis.resting(found.results) if found.cells is None else found.cells),
            )
            for path, found in self._found.items()
        )
        return Report(problems, tuple(self.notes), counts, tuple(basis.cells))


def differing_cells(settings: Frozen, one: Path, other: Path) -> list[Cell] | None:
    """The cells that two versions of a file of a table or figure show differently; None if that is unclear.

    It is unclear when a row or column is there in one of them only, or the rows are not the table's own, or a file is
    not to be read as cells.
    """
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
    return {(one["row"], one["column"]): json.dumps(one, sort_keys=True) for one in json.loads(path.read_text())}
