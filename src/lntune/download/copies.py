"""Brings in a file that lies on a disk already: linked where that can be, else copied, and hashed in either case."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from lntune.errors import UserError

_BLOCK = 1 << 20


def copy(source: Path, target: Path, advance: Callable[[int], None], missing: str) -> str:
    """Copy a file and return its sha256.

    Args:
        source: the file.
        target: where it goes; what a killed attempt left there gives way.
        advance: told how many bytes were copied.
        missing: what is said of a file that is not there.

    Raises:
        UserError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reader:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # not overwritten: it may be linked to a file of the user's
            with target.open("wb") as writer:
                while block := reader.read(_BLOCK):
                    digest.update(block)
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


def link_or_copy(source: Path, target: Path, advance: Callable[[int], None], missing: str) -> str:
    """As :func:`copy`, but link the file if it lies on the same disk.

    Links in the way, as the hub's cache has them, are followed: the target is a plain file.
    """
    real = Path(os.path.realpath(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not real.is_file():
        raise UserError(f"{source}: {missing}")
    try:
        os.link(real, target)
    except OSError:  # another disk, another user's file, too many links, or no links there at all
        return copy(real, target, advance, missing)
    return _hashed(target, advance)


def _hashed(path: Path, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
