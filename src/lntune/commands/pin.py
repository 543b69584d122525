"""Enters a folder of files into the catalogue, with the bytes and the sha256 of each."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from lntune.config.catalog import CATALOG, Catalog
from lntune.config.load import load, validate
from lntune.errors import UserError
from lntune.files import write_whole

_HEADER = """\
# Every file that comes from outside the workflow: where it lies, its bytes, its sha256, its licence. What a result is
# made from is the sha256; the address only says where to find it. `lntune pin NAME FOLDER` writes an entry.
"""


def pin(root: Path, name: str, folder: Path, about: str, licence: str, leave_out: Collection[str] = ()) -> None:
    """Write or replace the entry ``name`` of a folder's files; the rest of the catalogue stays, comments and all.

    Paths are relative to ``root`` where the files lie below it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that holds the files of {name}")
    catalog = root / CATALOG
    before = load(catalog, Catalog) if catalog.is_file() else Catalog(entries={})
    entries: dict[str, Any] = before.model_dump(mode="json", exclude_defaults=True)["entries"]
    known = entries.get(name, {}).get("files", {})
    files, top = dict[str, dict[str, Any]](), root.resolve()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in leave_out and not path.name.startswith("."):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found = path.resolve()
            shown = found.relative_to(top) if found.is_relative_to(top) else found
            files[path.name] = {"path": str(shown), "bytes": path.stat().st_size, "sha256": digest}
            if "holds" in known.get(path.name, {}):  # true of the file, wherever it lies
                files[path.name]["holds"] = known[path.name]["holds"]
    if not files:
        raise UserError(f"{folder}: holds no files")
    entry = {"about": about, "licence": licence, "files": files}
    entries[name] = entry
    wanted = validate({"entries": entries}, Catalog, catalog)
    text = _spliced(catalog.read_text(encoding="utf-8"), name, entry) if before.entries else None
    if text is None or not _means(text, wanted):
        text = _HEADER + _dumped({"entries": dict(sorted(entries.items()))})
    write_whole(catalog, text)


def _dumped(value: Mapping[str, object]) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=110)


def _means(text: str, wanted: Catalog) -> bool:
    """Whether a text is the catalogue that is wanted: one that is written in another way than ours may not be."""
    try:
        return Catalog.model_validate(yaml.safe_load(text)) == wanted
    except (yaml.YAMLError, ValueError):
        return False


def _spliced(text: str, name: str, entry: Mapping[str, object]) -> str:
    """A catalogue's text with one entry replaced, or put before the first whose name comes after it.

    By hand, since ruamel.yaml takes the comments above an entry for the end of the one before it, and loses them.
    """
    document = yaml.compose(text)
    assert isinstance(document, yaml.MappingNode)
    entries = next(value for key, value in document.value if key.value == "entries")
    starts = [(key.value, key.start_mark.line) for key, _ in entries.value]
    lines = text.splitlines(keepends=True)
    end = next((line for known, line in starts if known > name), len(lines))
    while lines[end - 1].startswith("  #"):  # the comments above the next entry
        end -= 1
    start = next((line for known, line in starts if known == name), end)
    new = [f"  {line}\n" for line in _dumped({name: entry}).splitlines()]
    return "".join([*lines[:start], *new, *lines[end:]])
