"""Results of tables and figures as their stages leave them, from the CSV of one; for the tests of what reads them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from lntune.benchmarks.registry import by_column
from lntune.config.report_item import COST_COLUMNS, SIMILARITY


def parts_of(column: str) -> list[str]:
    """The parts of a column's cells."""
    return list(by_column()[column].parts) if column in by_column() else [""]


def cells_of(text: str) -> list[dict[str, Any]]:
    """What cells.json says of a table with this CSV: the cells of our rows."""
    records = [one for one in csv.DictReader(io.StringIO(text)) if one.get("source") != "literature"]
    return [
        {"row": f"{one['model']}: {one['method']}", "column": column, "value": one[column], "parts": parts_of(column)}
        for one in records
        for column in (*by_column(), *COST_COLUMNS, SIMILARITY)
        if one.get(column)
    ]


def write_result(folder: Path, name: str, text: str, cells: list[dict[str, Any]] | None = None) -> Path:
    """The result of a table or figure with this CSV; ``cells`` if they are not the table's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.csv").write_text(text)
    (folder / "cells.json").write_text(json.dumps(cells_of(text) if cells is None else cells))
    return folder
