"""What there is: a store's results, what processes left beside them, and marks; as found, without any judgement."""

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

from lntune.errors import UserError
from lntune.store.layout import MANIFEST, Store
from lntune.store.manifest import Manifest, read_manifest

NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12}")


class Shelves:
    """A store's folders as they are when they are first looked at. Links are not followed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.marks = list(self._marks())  # before the results: a mark is older than what it leads to
        self.finished: list[str] = []
        self.unfinished: list[str] = []
        self.temporary: list[str] = []
        for stage in folder_names(store.root):
            if not stage.startswith("."):
                self._look_into(stage)
        self.temporary += [f".scratch/{name}" for name in folder_names(store.root / ".scratch") if name.startswith(".")]
        self.scratch = [name for name in folder_names(store.root / ".scratch") if NAMED.fullmatch(name)]

    def _look_into(self, stage: str) -> None:
        for folder in folder_names(self.store.root / stage):
            name = f"{stage}/{folder}"
            if folder.startswith("."):
                self.temporary.append(name)
            elif NAMED.fullmatch(folder):
                done = (self.store.root / name / MANIFEST).is_file()
                (self.finished if done else self.unfinished).append(name)

    def _marks(self) -> Iterator[Path]:
        works = self.store.root / ".works"
        for stage in folder_names(works):
            for work in folder_names(works / stage):
                yield from (path for path in file_paths(works / stage / work) if NAMED.fullmatch(path.name))

    @cached_property
    def ids(self) -> set[str]:
        """The finished results as scratch names them: ``stage-id``."""
        return {scratch_name(name) for name in self.finished}

    @cache  # noqa: B019 - lives as long as one collection
    def manifest(self, name: str) -> Manifest | None:
        """A result's manifest; None without one, or if it cannot be read or is that of another result."""
        with suppress(UserError):
            manifest = read_manifest(self.store.root / name / MANIFEST)
            if manifest.name == name:
                return manifest
        return None

    def lock(self, name: str) -> Path:
        """The lock of whoever makes the result ``stage/label-id``."""
        return self.store.root / ".scratch" / f"{scratch_name(name)}.lock"


def scratch_name(name: str) -> str:
    """``stage/label-id`` as its scratch is called."""
    return f"{name.partition('/')[0]}-{name.rpartition('-')[2]}"


def folder_names(parent: Path) -> list[str]:
    """The names of the folders in a folder; none where it cannot be read."""
    with suppress(OSError), os.scandir(parent) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


def file_paths(parent: Path) -> list[Path]:
    """The plain files in a folder; none where it cannot be read."""
    with suppress(OSError), os.scandir(parent) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    return []


def seconds_since_change(path: Path) -> float:
    """Seconds since the last change of a file, or of a folder and what lies directly in it; endless for nothing."""
    try:
        inside = [path / name for name in os.listdir(path)] if path.is_dir() else []
        return time.time() - max(os.lstat(one).st_mtime for one in [path, *inside])
    except FileNotFoundError:
        return math.inf
