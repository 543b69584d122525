"""Where a cell is printed that the paper took from the literature: in its table, transcribed in workflow/paper."""

import csv
from pathlib import Path

from lntune.paper_numbers import PAPER

_SAID = "as the paper prints it, from the literature; nothing here made it"


def printed(root: Path, table: str, group: str, row: str, column: str) -> str:
    """The file and the lines that a cell was taken from, and what is noted there, in a sentence."""
    path = PAPER / f"{table}.csv"
    lines, notes = [], dict[str, None]()
    try:
        with (root / path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for one in reader:
                if (one["group"], one["row"], one["column"]) == (group, row, column):
                    lines.append(str(reader.line_num))
                    notes[one["note"]] = None
    except (OSError, KeyError):
        lines = []
    if not lines:
        return f"{_SAID}; {path} has no such line any more"
    said = "; ".join(note for note in notes if note)
    return f"{_SAID}: {path}, line{'s' * (len(lines) > 1)} {' and '.join(lines)}{f' ({said})' * bool(said)}"
