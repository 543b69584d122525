"""A store on a disk as disks are: shared with others by a group's rights, full, or closed to this user."""

import errno
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lntune.errors import UserError

_ROOM = "free some (`lntune gc`, `df -h`, `df -i`), or name a larger disk by `store` or TMPDIR; what is finished stays"
_FULL = {errno.ENOSPC: f"the disk is full: {_ROOM}", errno.EDQUOT: f"your quota there is used up: {_ROOM}"}
_CLOSED = "the owner may open it to the group (chmod -R g+rwX); new results in a store with the setgid bit are"
_READ_ONLY = "name another `store` in config.yaml, or run in a folder of your own: `snakemake -d FOLDER`"


def open_to_group(store: Path) -> None:
    """From now on leave what this process makes open to the group as the store is, if that has the setgid bit."""
    with suppress(OSError):
        mode, umask = store.stat().st_mode, os.umask(0o077)
        os.umask(umask & ~(mode & stat.S_IRWXG) if mode & stat.S_ISGID else umask)


@contextmanager
def one_line() -> Iterator[None]:
    """End the process with one line and exit code 1 for a mistake of the user's, or what a disk does not let happen."""
    try:
        yield
    except (UserError, OSError) as error:
        text = error if isinstance(error, UserError) else disk_trouble(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)


def disk_trouble(error: BaseException) -> UserError | None:
    """What a full disk, a quota or missing rights have done, and what to do; None for any other error.

    Libraries that write files tell of a full disk by its message alone.
    """
    name = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return UserError(f"{name}{error.strerror}; {_READ_ONLY}")
    if isinstance(error, PermissionError) and name:
        place = Path(os.fsdecode(error.filename)).absolute()
        while not os.access(place.parent, os.X_OK) or not place.exists():
            place = place.parent
        owner, mode = str(place.stat().st_uid), stat.S_IMODE(place.stat().st_mode)
        with suppress(KeyError):
            owner = pwd.getpwuid(int(owner)).pw_name
        return UserError(f"{name}{error.strerror}; {place} is {owner}'s, its mode {mode:04o} by their umask: {_CLOSED}")
    number = next((one for one in _FULL if os.strerror(one) in str(error)), None)
    return UserError(f"{name}{os.strerror(number)}; {_FULL[number]}") if number else None
