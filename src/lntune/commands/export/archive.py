"""A zip whose bytes depend on what is put into it alone: fixed times and modes, and the order in which files come.

The compressed bytes are zlib's, so that another build of zlib may pack the same files into other bytes.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from blake3 import blake3

_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_MODE = 0o100644 << 16
_UNIX = 3
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Written:
    """What was written as one file: its length in bytes and its hashes in hexadecimal digits."""

    bytes: int
    sha256: str
    blake3: str


class Archive:
    """A zip that is being written; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._zip.close()

    def add(self, name: str, source: Path | bytes) -> Written:
        """Add one file, from the disk or from memory, and say what was written.

        Raises:
            OSError: the source cannot be read, or the zip cannot be written.
        """
        info = zipfile.ZipInfo(name, _TIME)
        info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, _MODE, _UNIX
        info.file_size = len(source) if isinstance(source, bytes) else source.stat().st_size  # decides on zip64
        sha256, mine, count = hashlib.sha256(), blake3(), 0
        opened = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        with opened as reader, self._zip.open(info, "w") as writer:
            while block := reader.read(_BLOCK):
                sha256.update(block)
                mine.update(block)
                writer.write(block)
                count += len(block)
        return Written(count, sha256.hexdigest(), mine.hexdigest())
