"""Where one number of a table or figure comes from: its cell, and every result behind it, from the manifests alone.

    found = trace_cell(Path("."), "table3", "MM-VICUNA-7B: LayerNorm-80K", "MME", show=5)
    print(trace_text(found))                # lntune.commands.trace.text

``from`` are the results that the cell is read from, one a seed, ``because`` says who made it if nothing of ours did,
``results`` are those and all behind them, ``examples`` questions with answers and scores.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lntune.errors import UserError
from lntune.paper.printed import PAPER
from lntune.plan.derivation import derivation, examples, players
from lntune.plan.node import manifest_path
from lntune.plan.plan import SUMMARIES, Plan, shown_settings
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.plan.study import Study
from lntune.plan.targets import asked_files
from lntune.report.cells import cell_of
from lntune.report.published import Shown, difference, shown_if_cells, shown_in
from lntune.report.rows import (
    CELLS,
    LEARNING_RATE,
    Row,
    ShownItemSettings,
    chosen_rates,
    no_such,
    plain,
    row_called,
)
from lntune.site.address import cell_address
from lntune.stages.table import Printed
from lntune.stages.table import Settings as TableSettings
from lntune.store.manifest import MANIFEST, InputRecord, Manifest, Store, read_manifest


def trace_cell(
    root: Path,
    report_item: str,
    row: str,
    column: str,
    show: int = 0,
    wrong: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The derivation of a cell of a table or figure, given by name or by a published file; all of it fit for JSON.

    ``row`` is a title; "GROUP: TITLE" or "GROUP/TITLE" where several groups have one of that title. ``column`` is a
    benchmark, what the CSV says besides of it ("MME 95% interval"), or learning_rate; what the CSV calls "minus"
    another row is read from that row's results as well. So many questions as ``show`` says, only ``wrong`` ones or all,
    come with the model's answers and their marks. ``overrides`` are values over config.yaml's, as the run had them.

    UserError if it is not made yet, if there is no such row or column (the near ones are given) or several rows are
    meant, or if questions are asked for where a column has none.
    """
    plan = Plan(Study.read(root, overrides))
    files = asked_files(plan.study, report_item)
    if files[0].stem in SUMMARIES:
        raise _of_summary(plan, files[0].stem, row)
    made = _find_report_item(plan, root, files)
    cell = _cell(made, row, column)
    records = [record for _, its in cell.read for record in its]
    its = _row(made, cell.row)
    found = {
        "table": made.name,
        "row": cell.row,
        "column": cell.column,
        "value": cell.value,
        "scale": made.settings.scale,
        "protocol": made.settings.protocol,
        "notes": made.notes(cell.row, cell.column),
        "result": made.manifest.name,
        "from": _from(made, cell),
        "because": cell.because,
        "address": cell_address(made.name, its.group, its.title, cell.column),
        "results": derivation(plan, root, records),
    }
    if show:
        if cell.column == LEARNING_RATE or not records:
            raise UserError(f"{made.path}: {cell.column} of {cell.row} has no questions to show")
        found["examples"] = [examples(plan.store, source, show, wrong) for source in records]
    return found


def _of_summary(plan: Plan, table: str, row: str) -> UserError:
    """Where the numbers of a table come from that is no report item's: from no model, and by no longer way."""
    node = plan.report_item(table)
    if table != "data":
        return UserError(
            f"tables/{table}: its numbers follow from the tables of config.yaml by what each of its lines says; trace "
            f"a cell of one of those"
        )
    settings: Any = node.settings
    counted = {one.name: made for one, made in zip(settings.rows, node.players("sets"), strict=True)}
    if row not in counted:
        return no_such(f"tables/{table}:", "row", row, list(counted))
    return UserError(
        f"tables/{table}: the numbers of {row} are counts, made where the set is: "
        f"see dropped.json and manifest.json in {manifest_path(plan.store, counted[row]).parent}"
    )


# --- the table or figure ---------------------------------------------------------------------------------------------

_MARKS = r"\*|</?u>"
"""How Markdown sets the best and the second best."""


@dataclass(frozen=True)
class _ReportItem:
    """A table's or figure's result: today's config's, or else the one that a published file shows; and these files."""

    plan: Plan
    root: Path
    files: Sequence[Path]
    manifest: Manifest

    @property
    def name(self) -> str:
        """The table's or figure's name."""
        return self.files[0].stem

    @property
    def path(self) -> str:
        """As it is called in messages: ``tables/table3``."""
        return str(self.files[0].with_suffix(""))

    @cached_property
    def settings(self) -> ShownItemSettings:
        """The settings of its stage; UserError if it was made by an earlier version, whose settings were others."""
        return shown_settings(self.manifest, str(self.files[0]))

    @property
    def folder(self) -> Path:
        """Where the result lies."""
        return self.plan.store.root / self.manifest.name

    @cached_property
    def shown(self) -> Shown:
        """What is shown in each cell, and what the CSV says besides."""
        cells = json.loads((self.folder / CELLS).read_bytes())
        return self._in_csv | {(one["row"], one["column"]): str(one["value"]) for one in cells}

    @cached_property
    def _in_csv(self) -> Shown:
        """What the CSV shows in each cell, of a figure what is drawn; nothing if it is a list of points."""
        return shown_if_cells(self.folder / f"{self.name}.csv")

    def notes(self, row: str, column: str) -> list[str]:
        """What is to be known before a cell's value: which published files do not show the result that is traced."""
        notes = []
        if self.manifest.id != self.plan.report_item(self.name).id:
            other = f"traced is {self.manifest.name}, of another config or code"
            notes.append(f"{other}; `snakemake {self.files[0]}` makes this one's")
        drawn = self._in_csv.get((row, column), self.shown.get((row, column)))
        if drawn != self.shown.get((row, column)):
            notes.append(f"drawn is {drawn}")
        for file in self.files:
            if not file.is_file():
                notes.append(f"{file} is not published; `snakemake {file}` does it")
            elif file.read_bytes() != (self.folder / file.name).read_bytes():
                edited = _shown_result(self.plan.store, file) is None
                why = "was edited by hand" if edited else "is of another config or code"
                has = self._published(file, row, column)
                notes.append(f"{file} {why} and has {has}; `snakemake {file}` mends it")
        return notes

    def _published(self, file: Path, row: str, column: str) -> str:
        """What a published file that differs has in a cell, or where it begins to differ if it has no such cells."""
        right = self.folder / file.name
        try:
            known, found = shown_in(right), shown_in(file).get((row, column))
        except ValueError:
            known = {}
        if (row, column) not in known:
            return difference(right, file)
        if found is None:
            return "no such cell"
        return "the same here" if found == known[row, column] else f"{re.sub(_MARKS, '', found)} here"


def _find_report_item(plan: Plan, root: Path, files: Sequence[Path]) -> _ReportItem:
    """The result of the published files that are asked for; UserError if there is none."""
    manifest = manifest_path(plan.store, plan.report_item(files[0].stem))
    shown = (_shown_result(plan.store, file) for file in files)
    made = read_manifest(manifest) if manifest.is_file() else next(filter(None, shown), None)
    if made is None:
        raise UserError(f"{files[0]}: not made yet under this config; run `snakemake {files[0]}`")
    return _ReportItem(plan, root, files, made)


def _shown_result(store: Store, file: Path) -> Manifest | None:
    """The result whose bytes a published file holds; None without such a result or such a file."""
    if not file.is_file():
        return None
    published = file.read_bytes()
    for stage in STAGES_OF_REPORT_ITEMS:
        for folder in sorted(store.root.glob(f"{stage}/{file.stem}-*")):
            made = folder / file.name
            if made.is_file() and made.read_bytes() == published and (folder / MANIFEST).is_file():
                return read_manifest(folder / MANIFEST)
    return None


# --- the cell --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """One cell, and by row, its own and one that it is compared with, the results that it is read from, one a seed.

    Without any, ``because`` says where it is from.
    """

    row: str
    column: str
    value: str
    read: tuple[tuple[str, tuple[InputRecord, ...]], ...] = ()
    because: str = ""


def _cell(made: _ReportItem, row: str, column: str) -> _Cell:
    chosen = _row(made, row)
    if isinstance(chosen, Printed):
        return _of_literature(made, chosen, column)
    settings, columns, scores = made.settings, made.settings.columns, players(made.manifest, "scores")
    besides = [  # what the CSV says besides of a column, as its interval
        shown for one, shown in made.shown if one == chosen.name and shown.startswith(tuple(f"{of} " for of in columns))
    ]
    column = _column(made, chosen.name, [*columns, *besides, LEARNING_RATE], column)
    if column == LEARNING_RATE:
        return _of_rate(made, chosen)
    of = next(one for one in columns if column == one or column.startswith(f"{one} "))
    compared = [chosen]
    if isinstance(settings, TableSettings) and column.startswith(f"{of} minus {settings.paired_with}"):
        other = settings.compared_with(chosen)
        compared += [] if other is None else [other]
    read = tuple((one.name, settings.sources(one, scores)[of]) for one in compared)
    return _Cell(chosen.name, column, made.shown[chosen.name, column], read)


def _of_rate(made: _ReportItem, row: Row) -> _Cell:
    """A row's learning rate, and the selections that chose it, if it was chosen."""
    if not row.selections and row.learning_rate is None:
        raise UserError(f"{made.path}: {row.name} has no learning rate; no model was tuned for it to the end")
    selections = players(made.manifest, "selections")
    sources = row.chosen(selections)
    value = made.shown.get((row.name, LEARNING_RATE))
    if value is None:
        value = "unknown"
        with suppress(OSError, ValueError, KeyError):
            value = chosen_rates(row, [made.plan.store.root / record.name for record in selections])
    because = "" if sources else "the row is of this learning rate; none was chosen"
    return _Cell(row.name, LEARNING_RATE, value, ((row.name, sources),), because)


def _of_literature(made: _ReportItem, row: Printed, column: str) -> _Cell:
    """A cell that the paper took from the literature."""
    name, columns = f"{row.group}: {row.title}", made.settings.columns
    column = _column(made, name, list(columns), column)
    because = _printed(made.root, made.name, row.group, row.title, column)
    return _Cell(name, column, row.cells[columns.index(column)], because=because)


def _from(made: _ReportItem, cell: _Cell) -> list[dict[str, Any]]:
    """Each result that a cell is read from.

    ``seed`` is None of what all seeds share, ``value`` what the cell would be of this result alone, as it is now.
    """
    found, settings = [], made.settings
    for row, records in cell.read:
        seeds = settings.seeds if len(records) == len(settings.seeds) else [None] * len(records)
        for seed, record in zip(seeds, records, strict=True):
            value, folder = None, made.plan.store.root / record.name
            if cell.column in settings.columns:
                with suppress(OSError, ValueError, KeyError, TypeError):
                    value = cell_of(cell.column, [folder], settings.formats.get(cell.column), settings.tokens).text
            found.append({"row": row, "seed": seed, "result": record.name, "content": record.content, "value": value})
    return found


# --- names -----------------------------------------------------------------------------------------------------------


def _row(made: _ReportItem, asked: str) -> Row | Printed:
    """The row that is meant, of ours or from the literature; UserError as :func:`row_called`."""
    literature = made.settings.literature if isinstance(made.settings, TableSettings) else ()
    rows: tuple[Row | Printed, ...] = (*made.settings.rows, *literature)
    return row_called(rows, asked, f"{made.path}:")


def _column(made: _ReportItem, row: str, known: list[str], asked: str) -> str:
    """The column that is meant, as the header writes it."""
    for column in known:
        if plain(column) == plain(asked):
            return column
    if plain(asked) in {plain(column) for of, column in made.shown if of == row}:
        raise UserError(f"{made.path}: {asked!r} is no number to be traced; there are {'; '.join(known)}")
    raise no_such(f"{made.path}:", "column", asked, known)


_FROM_PAPER = "as the paper prints it, from the literature; nothing here made it"


def _printed(root: Path, table: str, group: str, row: str, column: str) -> str:
    """The file and the lines that a cell was taken from, and what is noted there, in a sentence."""
    path = PAPER / f"{table}.csv"
    try:
        with (root / path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            its = [
                (str(reader.line_num), one["note"])
                for one in reader
                if (one["group"], one["row"], one["column"]) == (group, row, column)
            ]
    except (OSError, KeyError):
        its = []
    if not its:
        return f"{_FROM_PAPER}; {path} has no such line any more"
    said = "; ".join(dict.fromkeys(note for _, note in its if note))
    lines = " and ".join(line for line, _ in its)
    return f"{_FROM_PAPER}: {path}, line{'s' * (len(its) > 1)} {lines}{f' ({said})' * bool(said)}"
