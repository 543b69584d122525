"""Members of zip archives, read where they lie, and archives whose bytes repeat.

Nothing is ever unpacked: a folder of 595,000 files is slow to make, to hash and to delete.
"""

import os
import re
import stat
import struct
import sys
import unicodedata
import weakref
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from lntune.errors import UserError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_LARGEST = 1 << 30
"""No member of the study's archives unpacks to more bytes than this."""

_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED, _TWICE = -1, -2
_REFUSED = {_ENCRYPTED: "encrypted", _TWICE: "another member has this name, too, and other bytes"}


class BadMemberError(Exception):
    """A member's bytes cannot be had; says why."""


class Members:
    """The files in a zip by name; UserError if there is no such file, or it is no zip.

    Reads share no position in the file, so threads, and processes forked from this one, may read at the same time.

    Names are found whichever of Unicode's forms they have here and there, and read as UTF-8 also where a zip, as old
    programs made it, does not say so.

    Folders and what macOS adds (``__MACOSX``, ``._*``, ``.DS_Store``) do not count as members. Nor do links, and names
    that lead out of the archive's folder; one line on standard error names how many, and the first.
    With 595,000 members, opening takes 5 s and 360 MB of memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int, int, int, int]] = {}
        refused = []
        for entry in _entries(path):
            if _is_junk(entry.filename):
                continue
            if _is_refused(entry):
                refused.append(entry.orig_filename)
                continue
            method = _ENCRYPTED if entry.flag_bits & 0x1 else entry.compress_type
            place = (entry.header_offset, entry.compress_size, entry.file_size, entry.CRC, method)
            before = self._places.setdefault(_name_of(entry), place)
            if before[2:4] != place[2:4]:
                self._places[_name_of(entry)] = (*before[:4], _TWICE)
        if refused:
            left_out = f"{len(refused)} members left out, which are links or lead out of the archive's folder"
            print(f"warning: {path}: {left_out}; first: {refused[0]!r}", file=sys.stderr)
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def names(self) -> list[str]:
        """The members, in the archive's order."""
        return list(self._places)

    def only(self, file: str) -> str:
        """The one member whose name without folders is ``file``; UserError if it is none or several."""
        found = [name for name in self._places if PurePosixPath(name).name == file]
        if len(found) != 1:
            raise UserError(f"{self.path}: holds {len(found)} members called {file} instead of one")
        return found[0]

    def read(self, name: str) -> bytes:
        """A member's bytes, checked against its CRC; KeyError if there is none, UserError if the disk cannot be read.

        BadMemberError if it is damaged, encrypted, packed as none here is, over 1 GiB, or one of two of this name.
        """
        start, packed, size, crc, method = self._places[unicodedata.normalize("NFC", name)]
        if method not in _METHODS:
            raise BadMemberError(_REFUSED.get(method, f"compressed by method {method}, not deflate"))
        if size > _LARGEST:
            raise BadMemberError(f"{size} bytes when unpacked")
        header = self._bytes(_HEADER.size, start) if start >= 0 else b""
        if len(header) < _HEADER.size or header[:4] != b"PK\3\4":
            raise BadMemberError("no member begins where the archive's list says")
        _, name_length, extra_length = _HEADER.unpack(header)
        content = self._bytes(packed, start + _HEADER.size + name_length + extra_length)
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
            except zlib.error as error:
                raise BadMemberError(str(error)) from None
        if len(content) != size or zlib.crc32(content) != crc:
            raise BadMemberError("its bytes are not those that were packed (CRC)")
        return content

    def _bytes(self, number: int, start: int) -> bytes:
        try:
            return os.pread(self._file, number, start)
        except OSError as error:  # the disk's fault, not the member's
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from None

    def read_or_refuse(self, name: str) -> bytes:
        """The same, but what is wrong becomes a UserError that names archive and member."""
        try:
            return self.read(name)
        except KeyError:
            raise UserError(f"{self.path}: has no member {name}") from None
        except BadMemberError as error:
            raise UserError(f"{self.path}: member {name} cannot be read ({error}); download it again") from None


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except FileNotFoundError:
        raise UserError(f"{path}: no such archive; download it") from None
    except (zipfile.BadZipFile, OSError, NotImplementedError, struct.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable zip ({error}); download it again") from None


def _name_of(entry: zipfile.ZipInfo) -> str:
    try:
        name = entry.filename if entry.flag_bits & 0x800 else entry.filename.encode("cp437").decode()
    except UnicodeError:
        name = entry.filename
    return unicodedata.normalize("NFC", name)


def _is_junk(name: str) -> bool:
    *folders, file = name.split("/")
    return not file or file == ".DS_Store" or file.startswith("._") or "__MACOSX" in folders


def _is_refused(entry: zipfile.ZipInfo) -> bool:
    """Whether a member is a link, or its name leads elsewhere on any system."""
    name = entry.orig_filename
    leads_out = name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name) is not None
    return leads_out or "\\" in name or "\0" in name or stat.S_ISLNK(entry.external_attr >> 16)


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A zip with these members in this order, without times, so that equal members give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
