"""table: many results as one table, in CSV, Markdown and LaTeX, and where each cell comes from.

Every row also says how its learning rate was chosen, under which protocol it was asked, at which scale it was made and
whether it is ours, so that a copied line is still complete.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from lntune.config import Frozen
from lntune.report.cells import Cell, Value
from lntune.report.latex import latex_table
from lntune.report.layout import Emphasis, Layout, TableRow, lay_out
from lntune.report.markdown import markdown_table
from lntune.report.rows import Row, ShownItemSettings, cells_of, chosen_rates, notes, without_model, write_cells
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("pandas",)

OURS, OTHERS, LITERATURE = "ours", "others", "literature"

Record = dict[str, str]
"""A line of the CSV: a text for each of its columns."""


class Printed(Frozen):
    """A row that the paper took from the literature: its cells as printed."""

    group: str
    title: str
    cells: tuple[str, ...] = Field(strict=False)


class Settings(ShownItemSettings):
    """How the table looks, besides what all tables and figures say."""

    layout: Layout
    emphasis: Emphasis
    paired_with: str | None
    intervals: bool
    literature: tuple[Printed, ...] = Field(strict=False)

    def compared_with(self, row: Row) -> Row | None:
        """The row of its group that a row is compared with, question by question; None where there is none."""
        if row.title == self.paired_with:
            return None
        its = (one for one in self.rows if (one.group, one.title) == (row.group, self.paired_with))
        return next(its, None)


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.csv, NAME.md, NAME.tex and cells.json."""
    settings = job.settings
    cells = cells_of(settings, job.folders("scores"))
    others = [settings.compared_with(row) for row in settings.rows]
    paired = [None if other is None else cells[settings.rows.index(other)] for other in others]
    ours = [_record(job, *one) for one in zip(settings.rows, cells, paired, strict=True)]
    literature = [
        {"model": one.group, "method": one.title}
        | dict(zip(settings.columns, one.cells, strict=True))
        | {"source": LITERATURE}
        for one in settings.literature
    ]
    _write_csv(job.out / f"{settings.name}.csv", ours, literature)
    _write_readable(job.out, settings, cells)
    write_cells(job.out, settings, cells)
    return {"rows": len(literature) + len(ours), "cells": sum(map(len, cells))}


def _write_csv(path: Path, ours: Sequence[Record], literature: Sequence[Record]) -> None:
    """All rows, those from the literature first; the columns in the order that ours have."""
    import pandas as pd

    columns: list[str] = []
    for record in [*ours, *literature]:
        place = 0
        for name in record:
            # A column that only some rows have stands behind the one that it follows there.
            if name not in columns:
                columns.insert(place, name)
            place = columns.index(name) + 1
    table = pd.DataFrame([*literature, *ours], columns=columns)
    table.fillna("").to_csv(path, index=False, lineterminator="\n")


def _write_readable(out: Path, settings: Settings, cells: Sequence[Sequence[Cell]]) -> None:
    """The table as Markdown and as LaTeX."""
    rows = []
    for one in settings.literature:
        printed = tuple(Cell(tuple(map(Value, text.split("/")))) for text in one.cells)
        rows.append(TableRow(one.group, one.title, printed, literature=True))
    for row, its in zip(settings.rows, cells, strict=True):
        # A candidate that has no model says so in its own cell; where none was left to choose, that stays "-".
        in_words = [Cell((Value(one.short),)) if one.note else one for one in its]
        rows.append(TableRow(row.group, row.title, tuple(its if row.learning_rate is None else in_words)))
    table = lay_out(rows, settings.columns, settings.layout, settings.emphasis, intervals=settings.intervals)
    below = notes(settings, without_model(settings, cells))
    (out / f"{settings.name}.md").write_text(markdown_table(table, title=settings.title, notes=below), "utf-8")
    about = f"{settings.title} ({settings.name}). Scale: {settings.scale}. Protocol: {settings.protocol}."
    text = latex_table(table, name=settings.name, title=settings.title, notes=below, about=about)
    (out / f"{settings.name}.tex").write_text(text, "utf-8")


def _record(job: Job[Settings, NoExecution], row: Row, cells: Sequence[Cell], paired: Sequence[Cell] | None) -> Record:
    """A row of ours as a line of the CSV."""
    settings = job.settings
    record: Record = {"model": row.group, "method": row.title}
    for place, (column, cell) in enumerate(zip(settings.columns, cells, strict=True)):
        record[column] = cell.text
        record |= {f"{column} {name}": text for name, text in cell.beside.items()}
        if cell.decimals is None:
            continue
        record[f"{column} 95% interval"] = cell.interval
        if len(settings.seeds) > 1:
            record[f"{column} 95% interval over seeds"] = cell.seeds
        if settings.paired_with is not None:
            values, intervals = cell.minus(paired[place]) if paired else ("", "")
            record[f"{column} minus {settings.paired_with}"] = values
            record[f"{column} minus {settings.paired_with} 95% interval"] = intervals
    trained = bool(row.selections) or row.learning_rate is not None
    searched = f", {settings.search}" if settings.search else ""
    return record | {
        "learning_rate": chosen_rates(row, job.folders("selections")) if trained else "",
        "selected_on": f"Flickr30k {settings.split}{searched}" if row.selections else "",
        "protocol": settings.protocol,
        "scale": settings.scale,
        "source": OTHERS if row.others else OURS,
    }
