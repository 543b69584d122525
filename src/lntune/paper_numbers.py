"""Where the paper's own numbers and claims lie in a checkout, and what a stage is told of them.

files = paper_files(Path("."))      # "table1.csv" to its path, and "claims.yaml"
digests(files)                      # to the sha256 of each: a setting, so that an edit remakes what rests on it
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lntune.config.load import shown, unknown_name
from lntune.errors import UserError
from lntune.report.printed import read_paper

PAPER = Path("workflow") / "paper"
CLAIMS = "claims.yaml"


def paper_files(root: Path, *, claims: bool = True) -> dict[str, Path]:
    """Every file of workflow/paper by name, the claims among them if they are wanted.

    Raises:
        UserError: there are none.
    """
    found = {path.name: path for path in sorted((root / PAPER).glob("*.csv"))}
    if not found:
        raise UserError(f"{root / PAPER}: holds no table of the paper; restore it from the repository")
    if claims:
        found[CLAIMS] = root / PAPER / CLAIMS
    return found


def printed_names(files: Iterable[str]) -> list[str]:
    """The tables and figures of which the paper prints numbers, by the names of its files."""
    return [Path(name).stem for name in files if name.endswith(".csv")]


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """The sha256 of each file; UserError if one is not there."""
    try:
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; restore it from the repository") from None


def literature_rows(root: Path, table: str, groups: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the paper's table that it took from the literature: group, title and the printed text of each cell.

    Raises:
        UserError: the paper has no such table, or its table no such group.
    """
    if not groups:
        return []
    path = root / PAPER / f"{table}.csv"
    experiment = root / "workflow" / "experiments" / f"{table}.yaml"
    if not path.is_file():
        raise UserError(f"{shown(experiment)}: literature: {shown(path)} does not exist; remove the key")
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in read_paper(path):
        its = found.setdefault((one.place.group, one.place.row), {})
        its.setdefault(one.place.column, []).append(one.text)
    known = list(dict.fromkeys(group for group, _ in found))
    for place, wanted in enumerate(groups):
        if wanted not in known:
            raise unknown_name(experiment, f"literature[{place}]", wanted, known, f"group of {shown(path)}")
    return [
        {"group": group, "title": row, "cells": ["/".join(cells.get(column, [])) for column in columns]}
        for (group, row), cells in found.items()
        if group in groups
    ]
