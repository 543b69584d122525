"""How much deletion frees: results share files by hard links, and a file is freed with the last of its names."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lntune.commands.gc.model import Item
from lntune.commands.gc.store_folders import file_paths, folder_names


def size_of(path: Path) -> int:
    """A file's bytes; 0 if it is gone."""
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def measured(items: Sequence[Item]) -> Iterator[Item]:
    """The items with their sizes; a file is freed with the last of its names, if all of them are here."""
    held = [list(_inodes(item.path)) for item in items]
    seen = Counter(inode for inodes in held for inode, _, _ in inodes)
    left = seen.copy()
    for item, inodes in zip(items, held, strict=True):
        freed = 0
        for inode, links, size in inodes:
            left[inode] -= 1
            freed += size if left[inode] == 0 and seen[inode] >= links else 0
        yield replace(item, bytes=sum(size for _, _, size in inodes), freed=freed)


def _inodes(folder: Path) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Device and inode, links and bytes of every plain file below a folder."""
    for path in file_paths(folder):
        with suppress(OSError):
            stat = path.lstat()
            yield (stat.st_dev, stat.st_ino), stat.st_nlink, stat.st_size
    for name in folder_names(folder):
        yield from _inodes(folder / name)
