"""Who is at work: the lock of whoever makes a result, and Snakemake's locks of a checkout."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lntune.commands.gc.store_folders import file_paths


def is_held(lock: Path) -> bool:
    """Whether a process holds a result's lock, or may hold it; where the file system knows no locks nobody does."""
    try:
        handle = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


@contextmanager
def others_kept_out(lock: Path) -> Iterator[bool]:
    """Keep others from making a result meanwhile; False if someone is at it. The lock's file is deleted afterwards.

    The lock is shared: it needs no right to write the file, and keeps out whoever makes results all the same.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o666)
    alone = False
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            alone = lock.exists() and os.path.samestat(os.stat(lock), os.fstat(handle))
        except BlockingIOError:
            pass
        except FileNotFoundError:
            pass  # whoever held it has just deleted it
        except OSError:
            alone = True  # a file system without locks
        yield alone
    finally:
        if alone:
            with suppress(OSError):
                lock.unlink()
        os.close(handle)


def workflow_running(root: Path) -> str | None:
    """A line if a workflow runs in a checkout."""
    locks = root / ".snakemake" / "locks"
    if file_paths(locks):
        return f"{locks}: a workflow runs here; wait for it, or if it was killed, run `snakemake --unlock`"
    return None
