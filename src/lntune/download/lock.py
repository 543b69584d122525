"""``workflow/catalog.lock.yaml``: what the first download of each file found that the catalogue does not pin.

It is written by jobs, several at once on several machines, and committed: later downloads are checked against it.
"""

import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from lntune.config.catalog import CatalogLock, LockedFile
from lntune.config.load import load, shown
from lntune.errors import UserError

_HEADER = """\
# What the first download of a file found that workflow/catalog.yaml does not pin: written by the jobs that fetch, and
# to be committed. A file that turns out otherwise later is refused. docs/data.md says how to pin and how to mend.
"""

_THREADS = threading.Lock()


def read_lock(path: Path) -> CatalogLock:
    """All that was recorded; nothing without the file. UserError if it is not as it should be."""
    if not path.is_file() or not path.stat().st_size:
        return CatalogLock()
    return load(path, CatalogLock)


def record(path: Path, entry: str, name: str, found: LockedFile) -> LockedFile:
    """Record what the download of a file found, unless something is recorded of it; return what is recorded.

    Raises:
        UserError: the file is damaged, or cannot be written.
    """
    try:
        with _THREADS, _alone(path):
            entries = {known: dict(files) for known, files in read_lock(path).entries.items()}
            recorded = entries.setdefault(entry, {}).setdefault(name, found)
            if recorded is found:
                _write(path, CatalogLock(entries=entries))
            return recorded
    except OSError as error:
        raise UserError(
            f"{shown(path)}: what was found of {entry}: {name} cannot be recorded ({error.strerror}); make it writable"
        ) from None


def _write(path: Path, lock: CatalogLock) -> None:
    entries = {
        entry: {name: file.model_dump() for name, file in sorted(files.items())}
        for entry, files in sorted(lock.entries.items())
    }
    text = _HEADER + yaml.safe_dump({"entries": entries}, sort_keys=False, width=200)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    temporary.write_text(text)
    os.replace(temporary, path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from recording at the same time; on a file system without locks, go on without."""
    lock = path.with_name(f".{path.name}.lock")
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            break
        # Whoever held it before has deleted the file, and a lock on a deleted file keeps nobody out.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(lock), os.fstat(handle)):
                break
        os.close(handle)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)
