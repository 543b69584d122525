"""Files: written whole or not at all, one file in two places, and locks between processes.

Every module that writes what another process reads at the same time goes through here.

docs/decisions.md says why locks are ``flock``.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file in a folder that is there, so that at every moment there is the old one or all of the new one.

    Text is written as UTF-8. If ``durable``, it is on the disk at the end, so that a power cut cannot take it back.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        flush(path.parent)


def flush(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link(source: Path, target: Path) -> bool:
    """Make a hard link; False where that is not allowed.

    On another disk, say; and Linux refuses to link another user's file that one may not write (protected_hardlinks).
    """
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name: a hard link where that is allowed, else a copy."""
    if not link(source, target):
        shutil.copyfile(source, target)


@contextmanager
def locked(path: Path, busy: Callable[[], bool], *, shared: bool = False) -> Iterator[bool]:
    """Hold the lock on ``path``, which is made and in the end deleted; give whether it is held.

    The lock ends with the process, however that ends. On a file system without locks it counts as held: then two
    processes may do the same work. ``busy`` is called if another process holds it, and returns whether to wait. Others
    who ask for a ``shared`` one may hold it too; that needs no right to write the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path, busy, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):
                path.unlink()
            os.close(handle)


def _acquire(path: Path, busy: Callable[[], bool], kind: int) -> int | None:
    """An open handle that holds the lock; None if it is another's."""
    now, mode = fcntl.LOCK_NB, os.O_RDWR if kind == fcntl.LOCK_EX else os.O_RDONLY
    while True:
        handle = os.open(path, mode | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, kind | now)
            # Whoever held it before has deleted the file, and a lock on a deleted file keeps nobody out.
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        except BlockingIOError:
            if not busy():
                os.close(handle)
                return None
            now = 0
        except FileNotFoundError:
            pass
        except OSError:
            return handle
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on ``path``, or may hold it since the file cannot be opened."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # any other: a file system without locks
        return isinstance(error, BlockingIOError)
    finally:
        os.close(handle)
    return False
