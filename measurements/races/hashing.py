"""Content hashes of many small files and of one large one, beside SHA-256 by hashlib.file_digest.

Before each round the files are read once, so that both sides find them in the page cache: this measures hashing, not
the disk.
"""

import hashlib
import os
import random
import shutil
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from lntune.store.identity import hash_file, hash_tree
from races.rounds import Contestant, Row, Say, clocked, in_turn

VERSIONS = ("blake3",)

RIVAL = '`hashlib.file_digest(file, "sha256")`'
LARGE_BYTES = 4 << 30
SMALL_FILES = 20_000
SMALL_BYTES = (10_000, 100_000)
FILES_IN_A_FOLDER = 1_000
SEED = 0
BLOCK = 1 << 22


def other_versions() -> dict[str, str]:
    """SHA-256 is OpenSSL's."""
    return {"OpenSSL": ssl.OPENSSL_VERSION.split()[1]}


def rows(work: Path, say: Say) -> list[Row]:
    """Make the files in ``work`` (6 GB), and hash them."""
    check_room(work)
    large, small = work / "large" / "file.bin", work / "small"
    say("hashing: writing the files")
    make_large(large)
    make_small(small)

    def row(name: str, files: Path, rival: Callable[[], object], ours: Callable[[], object], target: float) -> Row:
        rounds = in_turn(name, cached(files, rival), cached(files, ours), say)
        return Row(work=name, rival=RIVAL, unit="s", target=target, limit="reading", **rounds)

    return [
        row(f"{SMALL_FILES:,} files of 10 to 100 KB", small, lambda: sha256_tree(small), lambda: hash_tree(small), 1.5),
        row(
            "one file of 4 GiB, one thread", large.parent,
            lambda: sha256_file(large), lambda: blake3(max_threads=1).update_mmap(large).hexdigest(), 2.0,
        ),
        row("one file of 4 GiB, both cores", large.parent, lambda: sha256_file(large), lambda: hash_file(large), 4.0),
    ]  # fmt: skip


def make_large(path: Path) -> None:
    """Write one large file of random bytes, a block repeated with a number before it."""
    block = random.Random(SEED).randbytes(BLOCK - 8)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for number in range(LARGE_BYTES // BLOCK):
            file.write(number.to_bytes(8, "big") + block)


def make_small(folder: Path) -> None:
    """Write many small files of random bytes."""
    rng = random.Random(SEED)
    for number in range(SMALL_FILES):
        inside = folder / f"{number // FILES_IN_A_FOLDER:03d}"
        inside.mkdir(parents=True, exist_ok=True)
        (inside / f"{number:05d}.bin").write_bytes(rng.randbytes(rng.randint(*SMALL_BYTES)))


def sha256_file(path: str | Path) -> str:
    """SHA-256 as Python's own library has it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by path."""
    found = {}
    for inside, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(inside, name)
            found[path] = sha256_file(path)
    return found


def cached(folder: Path, work: Callable[[], object]) -> Contestant:
    """A contestant that finds the folder's files in the page cache; bringing them there is not counted."""
    timed = clocked(work)

    def read_then_work() -> float:
        buffer = bytearray(BLOCK)
        for inside, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(inside, name), "rb", buffering=0) as file:
                    while file.readinto(buffer):
                        pass
        return timed()

    return read_then_work


def check_room(folder: Path) -> None:
    """Stop if the files do not fit on the disk, or if the page cache cannot hold them."""
    needed = LARGE_BYTES + SMALL_FILES * sum(SMALL_BYTES) // 2
    if shutil.disk_usage(folder).free < needed * 1.2:
        sys.exit(f"error: {folder}: not enough room for {needed / 1e9:.1f} GB; give another --work")
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < needed * 1.5:
        sys.exit(f"error: this machine's memory cannot hold {needed / 1e9:.1f} GB of files; the disk would be measured")
