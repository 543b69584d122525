"""The files of results, hashed anew and compared with what the manifests and the catalogue say of them.

Linked results share their files by hard links, so each file is read once, whatever the number of its names.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lntune.commands.verify.basis import Basis
from lntune.commands.verify.findings import Findings
from lntune.config.catalog import LOCK, ORIGINS, CatalogLock
from lntune.plan.fetched import origins_of
from lntune.plan.node import Node
from lntune.progress import track
from lntune.stages.fetch import Execution as FetchExecution
from lntune.stages.fetch import Settings as FetchSettings
from lntune.store.identity import hash_file
from lntune.store.layout import MANIFEST
from lntune.store.manifest import Manifest

MISSING = "is missing"
SURPLUS = "does not belong here"


@dataclass
class File:
    """One file on the disk: its size, the results that hold it under some name, and its hashes.

    The BLAKE3 is empty if the file could not be read; the SHA-256 is taken of fetched files alone.
    """

    bytes: int
    holders: list[tuple[Node, Path]] = field(default_factory=list)
    blake3: str = ""
    sha256: str = ""


Held = Mapping[Node, Mapping[str, File]]
"""What each result holds: its files by name, the manifest left out."""


def hash_results(basis: Basis, jobs: int, findings: Findings) -> dict[Node, dict[str, File]]:
    """Hash the files of all results that are there, ``jobs`` at a time; those that cannot be read are problems."""
    held, files = _listed(basis, findings)
    with ThreadPoolExecutor(jobs) as pool, track(len(files), "hashing", "files") as progress:
        try:
            for file, trouble in zip(files, pool.map(_hash, files), strict=True):
                if trouble:
                    node, path = file.holders[0]
                    findings.problem(path, f"cannot be read ({trouble})", [node])
                progress.advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return held


def _listed(basis: Basis, findings: Findings) -> tuple[dict[Node, dict[str, File]], list[File]]:
    by_inode: dict[tuple[int, int], File] = {}
    held: dict[Node, dict[str, File]] = {}
    for node in basis.done:
        held[node] = {}
        for name, entry in _entries(basis.folder(node)):
            path = Path(entry.path)
            if not entry.is_file(follow_symlinks=False):
                findings.problem(path, "is a link or a device; a result holds plain files alone", [node])
                continue
            stat = entry.stat(follow_symlinks=False)
            file = by_inode.setdefault((stat.st_dev, stat.st_ino), File(stat.st_size))
            file.holders.append((node, path))
            held[node][name] = file
    return held, list(by_inode.values())


def _entries(folder: Path, inside: str = "") -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Everything below a folder but folders and the manifest, by relative path."""
    with os.scandir(folder / inside) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = inside + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(folder, f"{name}/")
        elif name != MANIFEST:
            yield name, entry


def _hash(file: File) -> str:
    """Hash a file; return why it cannot be read, if so."""
    path = file.holders[0][1]
    try:
        file.blake3 = hash_file(path)
        if any(isinstance(node.settings, FetchSettings) for node, _ in file.holders):
            with path.open("rb") as opened:
                file.sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def check_files(basis: Basis, manifests: Mapping[Node, Manifest], held: Held, findings: Findings) -> None:
    """Compare what is there with the manifests: missing files, surplus ones, and those of other bytes."""
    for node, manifest in manifests.items():
        folder = basis.folder(node)
        for name in held[node].keys() - manifest.outputs.keys():
            findings.problem(folder / name, SURPLUS, [node])
        for name, record in manifest.outputs.items():
            file = held[node].get(name)
            if file is None:
                findings.problem(folder / name, MISSING, [node])
            elif file.bytes != record.bytes:
                _off(findings, file, f"has {file.bytes:,} bytes, its manifest says {record.bytes:,}")
            elif file.blake3 and file.blake3 != record.blake3:
                _off(findings, file, "does not hold the bytes that its manifest says")


def check_fetched(basis: Basis, held: Held, lock: CatalogLock, findings: Findings) -> None:
    """Compare fetched files with the sha256 that their result is named after, whatever their manifest says now.

    Those that the catalogue does not pin are compared with what the first download recorded, in ``lock``, and with what
    their own folder says that it found.
    """
    for node, files in held.items():
        if isinstance(node.settings, FetchSettings):
            for name, (sha256, what) in _known(basis, node, lock).items():
                file = files.get(name)
                if file is None:
                    findings.problem(basis.folder(node) / name, MISSING, [node])
                elif file.sha256 and sha256 and file.sha256 != sha256:
                    _off(findings, file, what)


def _known(basis: Basis, node: Node, lock: CatalogLock) -> dict[str, tuple[str | None, str]]:
    """Of each file of a fetch the sha256 that it must have, if that is known, and what is said of one that has not."""
    settings, execution = node.settings, node.execution
    assert isinstance(settings, FetchSettings) and isinstance(execution, FetchExecution)
    recorded, origins = lock.entries.get(execution.entry, {}), origins_of(basis.folder(node))
    known: dict[str, tuple[str | None, str]] = {
        name: (sha256, "has another sha256 than the catalogue gave") for name, sha256 in settings.files.items()
    }
    for name in settings.addresses:
        if name in recorded:
            known[name] = (recorded[name].sha256, f"has another sha256 than {LOCK} records")
        else:
            sha256 = origins[name].sha256 if name in origins else None
            known[name] = (sha256, f"has another sha256 than {ORIGINS} beside it says")
    return known


def _off(findings: Findings, file: File, what: str) -> None:
    """A file that is wrong is wrong in all results that hold it."""
    (_, path), *others = file.holders
    findings.problem(path, what, [node for node, _ in file.holders], also=[other for _, other in others])
