"""table: many results as one table, in CSV, Markdown and LaTeX, and where each cell comes from.

Every row also says how its learning rate was chosen, under which protocol it was asked, at which scale it was made and
whether it is ours, so that a copied line still tells what it is.
"""

from typing import Any, Literal

from pydantic import Field

from lntune.config.base import Frozen
from lntune.report.cells import Cell, cell_of
from lntune.report.markdown import markdown_table
from lntune.report.rows import ExhibitSettings, Row, chosen_rates, notes, write_cells
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("pandas",)

OURS, LITERATURE = "ours", "literature"


class Printed(Frozen):
    """A row that the paper took from the literature: its cells as printed."""

    group: str
    title: str
    cells: tuple[str, ...] = Field(strict=False)


class Settings(ExhibitSettings):
    """How the table looks, besides what all tables and figures say."""

    layout: Literal["groups", "groups-across", "rows-across"]
    emphasis: Literal["best-and-second", "best", "none"]
    paired_with: str | None
    intervals: bool
    literature: tuple[Printed, ...] = Field(strict=False)


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.csv, NAME.md, NAME.tex and cells.json."""
    import pandas as pd

    settings = job.settings
    cells = [_cells(job, row) for row in settings.rows]
    records = [_literature(settings, printed) for printed in settings.literature]
    records += [_record(job, row, found) for row, found in zip(settings.rows, cells, strict=True)]
    pd.DataFrame(records).fillna("").to_csv(job.out / f"{settings.name}.csv", index=False, lineterminator="\n")
    text = markdown_table(
        title=settings.title,
        notes=notes(settings),
        columns=settings.columns,
        rows=[(row.group, row.title) for row in settings.rows],
        cells=cells,
    )
    (job.out / f"{settings.name}.md").write_text(text)
    write_cells(job.out, settings, (cell.text for row in cells for cell in row))
    return {"rows": len(records), "cells": sum(map(len, cells))}


def _cells(job: Job[Settings, NoExecution], row: Row) -> list[Cell]:
    folders = job.folders("scores")
    return [
        cell_of(column, [folders[place] for place in places], job.settings.tokens)
        for column, places in zip(job.settings.columns, row.scores, strict=True)
    ]


def _record(job: Job[Settings, NoExecution], row: Row, cells: list[Cell]) -> dict[str, str]:
    """A row of ours as a line of the CSV."""
    settings = job.settings
    record: dict[str, str] = {"model": row.group, "method": row.title}
    for column, cell in zip(settings.columns, cells, strict=True):
        record[column] = cell.text
        if cell.intervals:
            record[f"{column} 95% interval"] = cell.interval
        record |= {f"{column} {name}": text for name, text in (cell.beside or {}).items()}
    trained = bool(row.selections) or row.learning_rate is not None
    return record | {
        "learning_rate": chosen_rates(row, job.folders("selections")) if trained else "",
        "selected_on": f"Flickr30k {settings.split}" if row.selections else "",
        "protocol": settings.protocol,
        "scale": settings.scale,
        "source": OURS,
    }


def _literature(settings: Settings, printed: Printed) -> dict[str, Any]:
    record = {"model": printed.group, "method": printed.title}
    return record | dict(zip(settings.columns, printed.cells, strict=True)) | {"source": LITERATURE}
