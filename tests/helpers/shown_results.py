"""Results of tables and figures as their stages leave them, from the CSV of one; for the tests of what reads them."""

import csv
import io
import json
from pathlib import Path
from typing import get_args

from lntune.config.report_item import Column


def cells_of(text: str) -> list[dict[str, str]]:
    """What cells.json says of a table with this CSV: the cells of our rows."""
    records = [one for one in csv.DictReader(io.StringIO(text)) if one.get("source") != "literature"]
    return [
        {"row": f"{one['model']}: {one['method']}", "column": column, "value": one[column]}
        for one in records
        for column in get_args(Column)
        if one.get(column)
    ]


def write_result(folder: Path, name: str, text: str, cells: list[dict[str, str]] | None = None) -> Path:
    """The result of a table or figure with this CSV; ``cells`` if they are not the table's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.csv").write_text(text)
    (folder / "cells.json").write_text(json.dumps(cells_of(text) if cells is None else cells))
    return folder
