"""Files on this disk: what has arrived of a download, and files that are here already and need none."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from lntune.errors import UserError
from lntune.files import link

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Version:
    """Which file the bytes are of, as far as the server says."""

    identity: str | None = None  # what names the bytes for good, such as the hub's hash
    etag: str | None = None
    modified: str | None = None  # when it was changed, as the server writes it
    total: int | None = None  # its bytes

    @property
    def is_known(self) -> bool:
        """Whether it could be told from another version. If not, what comes later may be of another file."""
        return bool(self.identity or self.etag or self.modified)

    @property
    def if_range(self) -> str | None:
        """What asks the server to go on with this version or else to send all of another (RFC 9110, 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Partial:
    """What has arrived of one file, in ``path``; the version lies next to it, in ``path`` and ``.version``.

    Opened again by another process, it goes on where the last one was killed: its bytes are hashed first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version, self.size, self._hash = _read_version(path), 0, hashlib.sha256()
        if self.version is not None and path.is_file():
            with path.open("rb") as file:
                self._hash = hashlib.file_digest(file, "sha256")
                self.size = file.tell()
        self._file: BinaryIO | None = None

    @staticmethod
    def arrived(path: Path) -> int:
        """Bytes that have arrived at ``path``, unless they are of no use."""
        return path.stat().st_size if path.is_file() and _read_version(path) is not None else 0

    @property
    def sha256(self) -> str:
        """Of what has arrived."""
        return self._hash.hexdigest()

    def is_called(self, name: str) -> bool:
        """Whether what has arrived is what the hub knows by this hash: a sha256, or git's of files that git holds."""
        if len(name) == 40:
            git = hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)
            self.close()  # so that all of it is in the file
            git.update(self.path.read_bytes())
            return git.hexdigest() == name
        return len(name) != 64 or self.sha256 == name

    def begin(self, version: Version) -> None:
        """Throw away what has arrived and wait for this version."""
        self.remove()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        _note_of(self.path).write_text(json.dumps(asdict(version)), encoding="utf-8")
        self.version = version

    def write(self, block: bytes) -> None:
        """Add what has arrived."""
        if self._file is None:
            self._file = self.path.open("ab")
        self._file.write(block)
        self._hash.update(block)
        self.size += len(block)

    def close(self) -> None:
        """Close the file; it can be written to again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete what has arrived."""
        self.close()
        discard(self.path)
        self.version, self.size, self._hash = None, 0, hashlib.sha256()


def discard(path: Path) -> None:
    """Delete what has arrived of a file, unread."""
    _note_of(path).unlink(missing_ok=True)  # first, so that no bytes are ever taken for another version's
    path.unlink(missing_ok=True)  # and not emptied: it may be linked to a file of the user's


def _note_of(path: Path) -> Path:
    return path.with_name(path.name + ".version")


def _read_version(path: Path) -> Version | None:
    """None if there is no note, or a kill has cut it short; then what has arrived is of no use."""
    try:
        return Version(**json.loads(_note_of(path).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def bring_in(source: Path, target: Path, advance: Callable[[int], None], missing: str, as_link: bool) -> str:
    """Copy a file, or ``as_link`` hard-link it where it lies on the same disk, and return its sha256.

    Links in the way, as the hub's cache has them, are followed; what a killed attempt left at ``target`` is deleted.
    ``advance`` is called with how many bytes were read. UserError if the file cannot be read (``missing`` says what is
    said of one that is not there), or the disk is full.
    """
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # not overwritten: it may be linked to a file of the user's
    linked = as_link and source.is_file() and link(Path(os.path.realpath(source)), target)
    try:
        with source.open("rb") as reader, nullcontext() if linked else target.open("wb") as writer:
            while block := reader.read(_BLOCK):
                digest.update(block)
                if writer is not None:
                    writer.write(block)
                advance(len(block))
    except FileNotFoundError:
        raise UserError(f"{source}: {missing}") from None
    except (PermissionError, IsADirectoryError) as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{source}: cannot be copied to {target} ({error.strerror}); make room") from None
    return digest.hexdigest()
