"""Reading members out of zip archives where they lie, and writing archives whose bytes repeat.

Images are never unpacked: a folder of 595,000 files is slow to make, to hash and to delete.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lntune.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

_EPOCH = (1980, 1, 1, 0, 0, 0)


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip for reading; UserError names it if it is missing or broken."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise UserError(f"{path}: no such archive") from None
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: not a readable zip ({error}); download it again") from None


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A zip with these members in this order, without times, so that equal members give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


class PictureArchive:
    """Pictures by member name, read on demand from one zip.

    The archive is opened at the first read, and anew in a process that was forked since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: zipfile.ZipFile | None = None

    def _archive(self) -> zipfile.ZipFile:
        if self._open is None:
            try:
                self._open = zipfile.ZipFile(self.path)
            except FileNotFoundError:
                raise UserError(f"{self.path}: no such archive") from None
            except zipfile.BadZipFile as error:
                raise UserError(f"{self.path}: not a readable zip ({error}); download it again") from None
        return self._open

    def names(self) -> list[str]:
        """The members, in the archive's order."""
        return self._archive().namelist()

    def read(self, member: str) -> "Image":
        """One picture, decoded; UserError names archive and member if it cannot be."""
        from PIL import Image, UnidentifiedImageError

        try:
            picture = Image.open(io.BytesIO(self._archive().read(member)))
            picture.load()
        except KeyError:
            raise UserError(f"{self.path}: has no member {member}; the samples belong to another archive") from None
        except (UnidentifiedImageError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path}: member {member} is not a readable picture ({error})") from None
        return picture
