"""Rows as CSV and as a Markdown table; and for comparing two versions of a published file: what it shows, by row and
column, and where the two differ.
"""

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows, of which the first is the header, as CSV in UTF-8."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()) -> list[str]:
    """A Markdown table, line by line, in which "|" is "/"; the columns titled as in ``right`` are set to the right."""
    rule = ["--:" if title in right else "---" for title in header]
    lines = ([" ".join(cell.replace("|", "/").split()) for cell in cells] for cells in (header, rule, *rows))
    return [f"| {' | '.join(cells)} |" for cells in lines]


Shown = dict[tuple[str, str], str]
"""What a file shows, by row ("GROUP: TITLE") and column."""


def shown_in(file: Path) -> Shown:
    """What a CSV or a Markdown table shows; ValueError if it has not every row once: points of a curve are no cells."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        return _in_csv(text)
    if file.suffix == ".md":
        return _in_markdown(text)
    raise ValueError(f"{file}: shows no cells that can be read")


def shown_if_cells(file: Path) -> Shown:
    """The same, and nothing where it shows no cells."""
    try:
        return shown_in(file)
    except ValueError:
        return {}


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


_LONGEST = 60
_NOTHING: Any = object()


def difference(right: Path, found: Path) -> str:
    """Where ``found`` begins to differ from ``right``: ``CIDEr 99.2, not 41.3``; ``"a" in line 7, not "b"``."""
    try:
        texts = [path.read_text(encoding="utf-8") for path in (right, found)]
        if right.suffix == ".json":
            where, expected, value = next(_differing(*map(json.loads, texts)))
            return f"{where} {_short(value)}, not {_short(expected)}"
        lines = zip_longest(*(text.split("\n") for text in texts), fillvalue=_NOTHING)
        for number, (expected, value) in enumerate(lines, 1):
            if expected != value:
                return f"{_short(value)} in line {number}, not {_short(expected)}"
    except (ValueError, StopIteration):
        pass  # no text, or no JSON, or the same values written otherwise
    return "other bytes"


def differing_values(right: Any, found: Any) -> str:
    """The same of two JSON values; empty if they are equal."""
    for where, expected, value in _differing(right, found):
        return f"{where} {_short(value)}, not {_short(expected)}"
    return ""


def _differing(right: Any, found: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each place at which two JSON values differ, with both values."""
    if isinstance(right, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*right, *found]):
            inside = f"{where}.{key}" if where else key
            yield from _differing(right.get(key, _NOTHING), found.get(key, _NOTHING), inside)
    elif isinstance(right, list) and isinstance(found, list):
        for place, (one, other) in enumerate(zip_longest(right, found, fillvalue=_NOTHING)):
            yield from _differing(one, other, f"{where}[{place}]")
    elif type(right) is not type(found) or right != found:
        yield where, right, found


def _short(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
