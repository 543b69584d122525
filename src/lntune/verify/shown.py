"""The published files of tables, and which cells two versions of a table's file have different."""

import csv
import json
from pathlib import Path

from lntune.nodes import is_done, manifest_path
from lntune.plan import Plan
from lntune.targets import Target, is_right
from lntune.verify.basis import Cell
from lntune.verify.difference import difference
from lntune.verify.findings import Findings

Shown = dict[tuple[str, str], str]
"""What a file shows, by row and column."""


def check_published(plan: Plan, root: Path, targets: list[Target], findings: Findings) -> None:
    """Whether each target is made, and each published file that is asked for holds what its result holds."""
    for target in targets:
        file, manifest = target.file, manifest_path(plan.store, target.node)
        if not is_done(plan.store, target.node):
            path = file or manifest.parent
            findings.problem(path, f"is not made yet under this config; run `snakemake {file or manifest}`")
        elif file is not None and not is_right(plan, root / file):
            made = manifest.parent / file.name
            if not (root / file).is_file():
                findings.problem(file, f"is not there; run `snakemake {file}`", cells=())
            elif made.is_file():
                what = f"does not show {made.parent}: it has {difference(made, root / file)}; run `snakemake {file}`"
                cells = differing_cells(file.stem, made, root / file)
                findings.problem(file, what, [target.node], cells=cells)
            else:
                what = f"is not the page of {made.parent}; run `snakemake {file}`"
                findings.problem(file, what, [target.node], cells=())


def differing_cells(table: str, one: Path, other: Path) -> list[Cell] | None:
    """The cells that two versions of a table's CSV, Markdown or cells.json show differently; None if that is unclear.

    It is unclear when a row or column is there in one of them only, or a file is not to be read as a table.
    """
    try:
        first, second = _shown(one), _shown(other)
    except (ValueError, KeyError, TypeError, OSError):
        return None
    if not first or first.keys() != second.keys():
        return None
    return [Cell(table, row, column) for (row, column), text in first.items() if second[row, column] != text]


def _shown(path: Path) -> Shown:
    text = path.read_text()
    if path.suffix == ".csv":
        records = csv.DictReader(text.splitlines(), strict=True)
        return {
            (f"{record['model']}: {record['method']}", column): value
            for record in records
            for column, value in record.items()
            if column not in ("model", "method")
        }
    if path.suffix == ".json":
        return {(one["row"], one["column"]): json.dumps(one, sort_keys=True) for one in json.loads(text)}
    return _shown_in_markdown(text)


def _shown_in_markdown(text: str) -> Shown:
    """The rows below the head; a line whose first cell alone is filled, in italics, begins a group."""
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    (_, *columns), _, *rows = lines
    shown, group = {}, ""
    for title, *values in rows:
        if not any(values):
            group = title.strip("*")
            continue
        for column, value in zip(columns, values, strict=True):
            shown[f"{group}: {title}", column] = value
    return shown
