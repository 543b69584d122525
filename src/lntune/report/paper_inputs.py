"""The paper's numbers as a stage reads them: files that must still have the digests that its name was made from."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from lntune.errors import UserError
from lntune.report.printed import Printed, read_ours, read_paper


def check(paths: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, Path]:
    """Name to path; UserError if a file is not the one that was planned with."""
    found = {}
    for name, sha256 in expected.items():
        path = Path(paths[name])
        try:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; restore it from the repository") from None
        if not same:
            raise UserError(f"{path}: was edited since the run started; start the run again")
        found[name] = path
    return found


def read_tables(files: Mapping[str, Path]) -> dict[str, list[Printed]]:
    """Table to the paper's figures."""
    return {path.stem: read_paper(path) for name, path in files.items() if name.endswith(".csv")}


def read_own(tables: Sequence[str], folders: Sequence[Path]) -> dict[str, list[Printed]]:
    """Table or figure to our figures; each lies in its result's folder."""
    return {name: read_ours(name, folder) for name, folder in zip(tables, folders, strict=True)}
