"""Enters a folder of files into the catalogue, with the bytes and the sha256 of each."""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

import yaml

from lntune.config.catalog import Catalog
from lntune.config.load import load
from lntune.errors import UserError

CATALOG = Path("workflow/catalog.yaml")

_HEADER = """\
# Every file that comes from outside the workflow: where it lies, its bytes, its sha256, its licence. What a result is
# made from is the sha256; the path only says where to find it. `lntune pin NAME FOLDER` writes an entry.
"""


def entry_of(root: Path, folder: Path, about: str, licence: str, leave_out: Collection[str] = ()) -> dict[str, object]:
    """The catalogue entry of a folder's files; paths are relative to ``root`` where they lie below it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in leave_out and not path.name.startswith("."):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            inside = path.resolve().is_relative_to(root.resolve())
            shown = os.path.relpath(path.resolve(), root.resolve()) if inside else str(path.resolve())
            files[path.name] = {"path": shown, "bytes": path.stat().st_size, "sha256": digest}
    if not files:
        raise UserError(f"{folder}: holds no files")
    return {"about": about, "licence": licence, "files": files}


def pin(root: Path, name: str, folder: Path, about: str, licence: str, leave_out: Collection[str] = ()) -> None:
    """Write or replace the entry ``name``; the rest of the catalogue stays as it is."""
    path = root / CATALOG
    entries = load(path, Catalog).model_dump(mode="json")["entries"] if path.is_file() else {}
    entries[name] = entry_of(root, folder, about, licence, leave_out)
    text = yaml.safe_dump({"entries": dict(sorted(entries.items()))}, sort_keys=False, width=110)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(_HEADER + text)
    os.replace(temporary, path)
