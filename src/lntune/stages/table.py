"""table: many results as one table, in CSV, Markdown and LaTeX, and where each cell comes from.

Every row also says how its learning rate was chosen, under which protocol it was asked, at which scale it was made and
whether it is ours, so that a copied line still tells what it is.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from lntune.config.base import Frozen
from lntune.report.cells import Cell
from lntune.report.markdown import markdown_table
from lntune.report.rows import ExhibitSettings, Row, cells_of, chosen_rates, notes, write_cells
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
    cells = cells_of(settings, job.folders("scores"))
    paired = _paired(settings, cells)
    records = [_literature(settings, printed) for printed in settings.literature]
    records += [_record(job, *one) for one in zip(settings.rows, cells, paired, strict=True)]
    pd.DataFrame(records).fillna("").to_csv(job.out / f"{settings.name}.csv", index=False, lineterminator="\n")
    text = markdown_table(
        title=settings.title,
        notes=notes(settings),
        columns=settings.columns,
        rows=[(row.group, row.title) for row in settings.rows],
        cells=cells,
    )
    (job.out / f"{settings.name}.md").write_text(text)
    write_cells(job.out, settings, cells)
    return {"rows": len(records), "cells": sum(map(len, cells))}


def _paired(settings: Settings, cells: Sequence[Sequence[Cell]]) -> list[Sequence[Cell] | None]:
    """For each row the cells of the row of its group that it is compared with; None where there is none."""
    by_group = {
        row.group: its for row, its in zip(settings.rows, cells, strict=True) if row.title == settings.paired_with
    }
    return [by_group.get(row.group) if row.title != settings.paired_with else None for row in settings.rows]


def _record(
    job: Job[Settings, NoExecution], row: Row, cells: Sequence[Cell], paired: Sequence[Cell] | None
) -> dict[str, str]:
    """A row of ours as a line of the CSV."""
    settings = job.settings
    record: dict[str, str] = {"model": row.group, "method": row.title}
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
