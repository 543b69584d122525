"""Content hashes (BLAKE3) of files and of whole result folders."""

import os
from collections.abc import Collection
from pathlib import Path

from blake3 import blake3

from lntune.config.base import Frozen
from lntune.errors import UserError

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
    """Every file below a folder: relative path with forward slashes, in sorted order, to its record.

    Args:
        folder: where to look; empty folders in it leave no trace.
        ignore: relative paths of files to leave out.

    Raises:
        UserError: a link, a device, or a name that is not UTF-8: none of them has a content of its own that a
            copy of the folder is sure to keep.
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
