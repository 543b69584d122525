"""What the files of a table or figure show, by row and column: for whoever compares two versions of one."""

import csv
from pathlib import Path

Shown = dict[tuple[str, str], str]
"""What a file shows, by row ("GROUP: TITLE") and column."""


def shown_in(file: Path) -> Shown:
    """What a CSV or a Markdown table shows.

    Raises:
        ValueError: the file is neither, or not one that has every row once; the points of a curve are no cells.
    """
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        return _in_csv(text)
    if file.suffix == ".md":
        return _in_markdown(text)
    raise ValueError(f"{file}: shows no cells that can be read")


def _in_csv(text: str) -> Shown:
    shown: Shown = {}
    try:
        records = list(csv.DictReader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    for record in records:
        if None in record or None in record.values() or not {"model", "method"} <= record.keys():
            raise ValueError("a line has not the fields that its header names")
        row = f"{record.pop('model')}: {record.pop('method')}"
        for column, value in record.items():
            if (row, column) in shown:
                raise ValueError(f"{row} is there twice")
            shown[row, column] = value
    return shown


def _in_markdown(text: str) -> Shown:
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
