"""table: scores of many models as one table, in CSV and Markdown, and where each cell comes from.

cells.json names a cell's score and selection by their places among the inputs, not by their folders: a table whose
numbers come from results of other names, but of the same content, is the same table.

Every row also says how its learning rate was chosen, under which protocol it was asked and at which scale it was
made, so that a copied line still tells what it is.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from lntune.config.base import Frozen
from lntune.report.cells import Cell, cell_of
from lntune.report.markdown import markdown_table
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("pandas",)

CELLS = "cells.json"


class Row(Frozen):
    """One row: its group, its title, and the place of its selection and its scores among the inputs."""

    group: str
    title: str
    selection: int
    scores: tuple[int, ...] = Field(strict=False)


class Settings(Frozen):
    """What the table says besides its numbers."""

    name: str
    title: str
    note: str
    columns: tuple[str, ...] = Field(strict=False)
    rows: tuple[Row, ...] = Field(strict=False)
    scale: str
    scale_note: str
    protocol: str
    split: str
    intervals: bool


Execution = NoExecution


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.csv, NAME.md and cells.json."""
    import pandas as pd

    settings = job.settings
    records: list[dict[str, str]] = []
    cells: list[list[Cell]] = []
    sources: list[dict[str, Any]] = []
    for row in settings.rows:
        selection = _read(job.folders("selections")[row.selection] / "selection.json")
        found = []
        record = {"model": row.group, "method": row.title}
        for column, place in zip(settings.columns, row.scores, strict=True):
            folder = job.folders("scores")[place]
            cell = cell_of(column, _read(folder / "scores.json"))
            found.append(cell)
            record[column] = cell.text
            if settings.intervals:
                record[f"{column} 95% interval"] = cell.interval
            where = {"row": f"{row.group}: {row.title}", "column": column}
            sources.append({**where, "value": cell.text, "score": place, "selection": row.selection})
        record |= {
            "learning_rate": f"{selection['learning_rate']:g}",
            "selected_on": f"Flickr30k {settings.split}",
            "protocol": settings.protocol,
            "scale": settings.scale,
        }
        records.append(record)
        cells.append(found)
    pd.DataFrame(records).to_csv(job.out / f"{settings.name}.csv", index=False, lineterminator="\n")
    text = markdown_table(
        title=settings.title,
        notes=(settings.scale_note, settings.note, _provenance_note(settings)),
        columns=settings.columns,
        rows=[(row.group, row.title) for row in settings.rows],
        cells=cells,
    )
    (job.out / f"{settings.name}.md").write_text(text)
    (job.out / CELLS).write_text(json.dumps(sources, indent=1) + "\n")
    return {"rows": len(records), "cells": len(sources)}


def _provenance_note(settings: Settings) -> str:
    leak = " (the split that is reported, as in the paper: the choice leaks)" if settings.split == "test" else ""
    return (
        f"Scale: {settings.scale}. Protocol: {settings.protocol}. "
        f"Learning rates chosen by CIDEr on Flickr30k's {settings.split} split{leak}."
    )
