"""Hashes: of everything that made a result, which is its name, and of what files hold.

A value is hashed by its canonical JSON, in which the order of keys does not count; ``1``, ``1.0``, ``"1"`` and ``true``
are four different values.
"""

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from blake3 import blake3

from lntune.config import Frozen
from lntune.errors import UserError

# Part of every identity: raise it when the document below changes its meaning, and no old result is mistaken.
SCHEME = 1
ID_DIGITS = 12


def input_name(id: str, part: str | None) -> str:
    """How an identity names an input: a result by its id, a folder in one by ``id/folder``."""
    return id if part is None else f"{id}/{part}"


@dataclass(frozen=True)
class Identity:
    """Everything that decides the bytes of a result, and nothing else.

    ``settings`` are resolved, and of JSON types only. ``code`` is the digest by module
    (:func:`lntune.store.fingerprint.code_fingerprint`); ``packages`` the version by distribution, of those alone that
    shape the numbers; ``inputs`` role to the :func:`input_name` of what plays it, or several in an order that counts.
    ``environment`` is the variables that fix how numbers are rounded; none where that is left to the CPU.
    """

    stage: str
    settings: Mapping[str, Any]
    code: Mapping[str, str]
    packages: Mapping[str, str]
    inputs: Mapping[str, str | Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The JSON document that the id is the hash of."""
        inputs = {role: ids if isinstance(ids, str) else list(ids) for role, ids in self.inputs.items()}
        return {
            "scheme": SCHEME,
            "stage": self.stage,
            "settings": dict(self.settings),
            "code": dict(self.code),
            "packages": dict(self.packages),
            "inputs": inputs,
        } | ({"environment": dict(self.environment)} if self.environment else {})

    @cached_property
    def id(self) -> str:
        """The first 12 hexadecimal digits of the document's BLAKE3."""
        return digest(self.document())[:ID_DIGITS]


_PLAIN = (str, int, bool, type(None))


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, ASCII only; tuples are written as lists.

    Raises TypeError for what JSON has no type for, such as a path or a key that is no text, and for subclasses of the
    plain types (NumPy scalars, enums), whose text their value does not settle; ValueError for inf and nan.
    """
    _check(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """BLAKE3 of the canonical text, as 64 hexadecimal digits. Raises as :func:`canonical_json` does."""
    return blake3(canonical_json(value).encode("ascii")).hexdigest()


def _check(value: Any, where: str) -> None:
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value!r}, which JSON cannot hold")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}, which is no text")
            _check(item, f"{where}.{key}")
    elif kind in (list, tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    else:
        raise TypeError(f"{where} is a {kind.__module__}.{kind.__qualname__}, which JSON has no type for")


# Below this, reading beats mapping: to map a file costs more than to hash it, and threads make it worse.
_MAPPED_FROM_BYTES = 1 << 20


class FileRecord(Frozen):
    """What is known of a file's content: its length in bytes and its BLAKE3 in 64 hexadecimal digits."""

    bytes: int
    blake3: str


def hash_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, in 64 hexadecimal digits; a large file is hashed on all cores."""
    return _hash(path, os.stat(path).st_size)


def hash_tree(folder: Path, ignore: Collection[str] = ()) -> dict[str, FileRecord]:
    """Every file below a folder, but for the relative paths ``ignore``: that path, in sorted order, to its record.

    UserError for a link, a device, or a name that is not UTF-8: a copy of the folder is not sure to keep those.
    """
    files = {}
    folders = [""]
    while folders:
        inside = folders.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = inside + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif name not in ignore:
                    files[name] = _record(entry, name, folder)
    return dict(sorted(files.items()))


def _record(entry: "os.DirEntry[str]", name: str, folder: Path) -> FileRecord:
    if not entry.is_file(follow_symlinks=False):
        raise UserError(f"{folder}: {name} is a link or a device; a result may hold only plain files")
    if not name.isprintable():
        raise UserError(f"{folder}: the file name {name!r} has characters that cannot be printed; rename it")
    size = entry.stat(follow_symlinks=False).st_size
    return FileRecord(bytes=size, blake3=_hash(entry.path, size))


def _hash(path: str | Path, size: int) -> str:
    if size < _MAPPED_FROM_BYTES:
        handle = os.open(path, os.O_RDONLY)  # open() costs as much as hashing a file of this size
        try:
            hasher = blake3()
            while block := os.read(handle, size + 1):
                hasher.update(block)
            return hasher.hexdigest()
        finally:
            os.close(handle)
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
