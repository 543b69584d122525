"""What is stored: manifests that are what their folders' names say, and files that are what the manifests say.

An id is the hash of what made a result, so an edited manifest gives itself away. What files a result holds is not
in its id, but in the records of those that were made from it. Linked results share their files by hard links, so each
file is read once, whatever the number of its names.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lntune.commands.verify.basis import Basis
from lntune.commands.verify.basis import name as folder_name
from lntune.commands.verify.findings import Findings
from lntune.config.catalog import LOCK, ORIGINS, CatalogLock
from lntune.errors import UserError
from lntune.plan.fetched import origins_of
from lntune.plan.node import Node, compared, manifest_path
from lntune.progress import track
from lntune.stages.fetch import Execution as FetchExecution
from lntune.stages.fetch import Settings as FetchSettings
from lntune.store.identity import hash_file
from lntune.store.manifest import MANIFEST, Manifest, content_digest, read_manifest
from lntune.units import counted

Manifests = Mapping[Node, Manifest]

_MOST_NAMES = 3

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


# --- manifests -----------------------------------------------------------------------------------------------------


def read_manifests(basis: Basis, findings: Findings) -> dict[Node, Manifest]:
    """The manifests of all results that are there; a damaged one is a problem and left out."""
    found = {}
    for node in basis.done:
        path = manifest_path(basis.store, node)
        try:
            found[node] = read_manifest(path)
        except UserError as error:
            findings.problem(path, str(error).removeprefix(f"{path}: "), [node])
    return found


def check_manifests(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Whether each manifest agrees with its folder, with itself and with what was made from the result."""
    for node, manifest in manifests.items():
        for what in _own_faults(node, manifest):
            findings.problem(manifest_path(basis.store, node), what, [node])
    _check_contents(basis, manifests, findings)


def _own_faults(node: Node, manifest: Manifest) -> list[str]:
    faults = []
    if manifest.name != folder_name(node):
        faults.append(f"says that it is {manifest.name}")
    try:
        edited = manifest.identity().id != manifest.id
    except ValueError:
        edited = True  # a number that no identity can hold
    if edited:
        faults.append(f"was edited: its content does not make the id {manifest.id}{_changes(node, manifest)}")
    if content_digest(manifest.outputs) != manifest.content:
        faults.append("was edited: `content` is not the digest of its outputs")
    if manifest.seed != manifest.settings.get("seed"):
        faults.append(f"was edited: it notes the seed {manifest.seed}, its settings {manifest.settings.get('seed')}")
    return faults


def _changes(node: Node, manifest: Manifest) -> str:
    """What in an edited manifest is not as today's plan has it, which goes by the same id."""
    reasons = compared(node.identity, manifest.identity())
    texts = [f"{reason.what} was {reason.was} and is {reason.now}" for reason in reasons if reason.kind != "new"]
    return f" ({'; '.join(texts[:_MOST_NAMES])})" if texts else ""


def _check_contents(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Whether each result still holds what those that were made from it found there.

    Where none of them agrees with it, the result is off; where some do, the others are.
    """
    by_id = {(node.stage, node.id): node for node in manifests}
    made_from: dict[tuple[Node, str | None], dict[Node, bool]] = defaultdict(dict)
    for child, manifest in manifests.items():
        for _, record in manifest.parents():
            parent = by_id.get((record.stage, record.id))
            if parent is not None:  # else it was deleted or is damaged, or the id has given the record away
                agrees = manifests[parent].part_content(record.part) == record.content
                made_from[parent, record.part][child] = agrees
    for (parent, _), children in made_from.items():
        off = [child for child, agrees in children.items() if not agrees]
        if off and len(off) == len(children):
            what = f"does not hold what {_names(off)} {'was' if len(off) == 1 else 'were'} made from"
            findings.problem(manifest_path(basis.store, parent), what, [parent])
            continue
        for child in off:
            what = f"was made from other content than {folder_name(parent)} has, from which others were made"
            findings.problem(manifest_path(basis.store, child), what, [child])


def _names(nodes: list[Node]) -> str:
    text = ", ".join(folder_name(node) for node in nodes[:_MOST_NAMES])
    return text + (f" and {len(nodes) - _MOST_NAMES} more" if len(nodes) > _MOST_NAMES else "")


def note_deleted(basis: Basis, findings: Findings) -> None:
    """Note, stage by stage, what was deleted although results rest on it: no fault, but there the chain ends."""
    done = set(basis.done)
    needed = {parent for node in basis.done for parent in node.parents()} - done
    for stage in dict.fromkeys(node.stage for node in basis.nodes if node in needed):
        gone = [node for node in basis.nodes if node in needed and node.stage == stage]
        resting = sum(any(basis.rests(node, one) for one in gone) for node in basis.done)
        verb = "was" if len(gone) == 1 else "were"
        findings.notes.append(
            f"{_names(gone)} {verb} deleted; {counted(resting, 'result')} that rest on "
            f"{'it' if len(gone) == 1 else 'them'} cannot be followed further there"
        )


def note_accepted(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Note what rests on an edit that was declared equivalent: to change no result."""
    declared: dict[tuple[str, str, str], tuple[str, set[Node]]] = {}
    for node in basis.done:
        noted = manifests[node].accepted if node in manifests else ()
        for edit in (*node.code_version.accepted, *noted):
            changed = ", ".join([*edit.code, *edit.packages])
            declared.setdefault((edit.stage, edit.date, edit.because), (changed, set()))[1].add(node)
    for (stage, date, because), (changed, nodes) in declared.items():
        verb = "rests" if len(nodes) == 1 else "rest"
        edit_text = f"an edit declared equivalent on {date}: {because!r} ({changed})"
        findings.notes.append(f"{counted(len(nodes), 'result')} of {stage} {verb} on {edit_text}")


def note_links(basis: Basis, manifests: Manifests, findings: Findings) -> None:
    """Note how many results were linked, and of how many the result that did the work is still there."""
    origins = [(node.stage, one.origin) for node, one in manifests.items() if one.origin is not None]
    if origins:
        there = sum(basis.store.is_done(stage, origin.label, origin.id) for stage, origin in origins)
        findings.notes.append(
            f"{counted(len(origins), 'result')} {'was' if len(origins) == 1 else 'were'} linked instead of computed; "
            f"the results that did the work are there for {there} of {len(origins)}"
        )


# --- files ---------------------------------------------------------------------------------------------------------


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
    """Of each file of a fetch the sha256 that it must have, if known, and what is wrong with a file of another."""
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
            known[name] = (sha256, f"has another sha256 than {ORIGINS} next to it says")
    return known


def _off(findings: Findings, file: File, what: str) -> None:
    """A file that is wrong is wrong in all results that hold it."""
    (_, path), *others = file.holders
    findings.problem(path, what, [node for node, _ in file.holders], also=[other for _, other in others])
