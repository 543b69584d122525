"""Where the paper's own numbers and claims lie in a checkout, and what a stage is told of them.

files = paper_files(Path("."))      # "table1.csv" to its path, and "claims.yaml"
digests(files)                      # to the sha256 of each: a setting, so that an edit remakes what rests on it
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from lntune.errors import UserError

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


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """The sha256 of each file; UserError if one is not there."""
    try:
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; restore it from the repository") from None
