"""How fast lntune's content hashes are, beside SHA-256 by hashlib.file_digest, file by file.

    python benchmarks/hashing.py [--folder DIR]

DIR is where the temporary files lie (6 GB, removed afterwards; by default the system's temporary folder). Both
contestants hash the same files in turn, five rounds after one that does not count. Before each measurement the files
are read once, so that both find them in the page cache: this measures hashing, not the disk. Takes about two minutes
on two cores; the table goes to standard output, progress to standard error.
"""

import argparse
import hashlib
import os
import platform
import random
import shutil
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from blake3 import blake3

from lntune.store import provenance
from lntune.store.hashing import hash_file, hash_tree

LARGE_BYTES = 4 << 30
SMALL_FILES = 20_000
SMALL_BYTES = (10_000, 100_000)
FILES_IN_A_FOLDER = 1_000
SEED = 0
ROUNDS = 5
BLOCK = 1 << 22


@dataclass(frozen=True)
class Race:
    """Two ways to hash the same files: lntune's, and SHA-256; and the files' folder and bytes."""

    name: str
    files: Path
    bytes: int
    ours: Callable[[], object]
    sha256: Callable[[], object]


def make_large(path: Path) -> int:
    """Write one large file of random bytes, a block repeated with a number before it; return its size."""
    block = random.Random(SEED).randbytes(BLOCK - 8)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for number in range(LARGE_BYTES // BLOCK):
            file.write(number.to_bytes(8, "big") + block)
    return path.stat().st_size


def make_small(folder: Path) -> int:
    """Write many small files of random bytes; return their bytes in all."""
    rng, total = random.Random(SEED), 0
    for number in range(SMALL_FILES):
        inside = folder / f"{number // FILES_IN_A_FOLDER:03d}"
        inside.mkdir(parents=True, exist_ok=True)
        size = rng.randint(*SMALL_BYTES)
        (inside / f"{number:05d}.bin").write_bytes(rng.randbytes(size))
        total += size
    return total


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


def read_all(folder: Path) -> None:
    """Bring a folder's files into the page cache."""
    buffer = bytearray(BLOCK)
    for inside, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(inside, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def measure(race: Race, say: Callable[[str], None]) -> list[tuple[float, float]]:
    """Seconds of ours and of SHA-256, turn by turn; the first round, which warms up, is left out."""
    rounds = []
    for number in range(ROUNDS + 1):
        seconds = []
        for contestant in (race.ours, race.sha256):
            read_all(race.files)
            start = time.perf_counter()
            contestant()
            seconds.append(time.perf_counter() - start)
        say(f"{race.name}: round {number or 'zero (warm-up)'}: {seconds[0]:.2f} s, SHA-256 {seconds[1]:.2f} s")
        rounds.append((seconds[0], seconds[1]))
    return rounds[1:]


def line(race: Race, rounds: Sequence[tuple[float, float]]) -> str:
    """One row of the table."""
    ours, sha = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = [theirs / mine for mine, theirs in rounds]
    speeds = " | ".join(f"{seconds:.2f} | {race.bytes / seconds / 1e9:.2f}" for seconds in (ours, sha))
    return f"| {race.name} | {speeds} | **{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) |"


def races(folder: Path) -> list[Race]:
    """Make the files, and say who hashes what."""
    large, small = folder / "large" / "file.bin", folder / "small"
    large_bytes, small_bytes = make_large(large), make_small(small)
    return [
        Race(
            f"{SMALL_FILES:,} files of 10 to 100 KB, `hash_tree`",
            small, small_bytes, lambda: hash_tree(small), lambda: sha256_tree(small),
        ),
        Race(
            "one file of 4 GiB, `hash_file`",
            large.parent, large_bytes, lambda: hash_file(large), lambda: sha256_file(large),
        ),
        Race(
            "the same, BLAKE3 on one thread",
            large.parent, large_bytes,
            lambda: blake3(max_threads=1).update_mmap(large).hexdigest(), lambda: sha256_file(large),
        ),
    ]  # fmt: skip


def check_room(folder: Path) -> None:
    """Stop if the files do not fit on the disk, or if the page cache cannot hold them."""
    needed = LARGE_BYTES + SMALL_FILES * sum(SMALL_BYTES) // 2
    if shutil.disk_usage(folder).free < needed * 1.2:
        sys.exit(f"error: {folder}: not enough room for {needed / 1e9:.1f} GB; give another --folder")
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < needed * 1.5:
        sys.exit(f"error: this machine's memory cannot hold {needed / 1e9:.1f} GB of files; the disk would be measured")


def machine() -> str:
    """Processor, cores that this process may use, and the versions of what was measured."""
    here = provenance.machine(ranks=1)
    openssl = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    versions = f"Python {platform.python_version()}, blake3 {metadata.version('blake3')}, {openssl}"
    return f"{here.cpu}, {here.cores} cores; {versions}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="lntune's content hashes beside SHA-256")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where temporary files lie")
    folder = parser.parse_args().folder
    check_room(folder)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="hashing-", dir=folder) as temporary:
        say("writing the files")
        lines = [line(race, measure(race, say)) for race in races(Path(temporary))]
    print("| files | lntune, s | GB/s | SHA-256, s | GB/s | times as fast (range) |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    print(f"\nMedians of {ROUNDS} interleaved rounds, files in the page cache. {machine()}.")


if __name__ == "__main__":
    main()
