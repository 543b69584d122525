"""What is stored: manifests that are what their folders' names say, and files that are what the manifests say.

An id is the hash of what made a result, so an edited manifest gives itself away. What files a result holds is not
in its id, but in the records of those that were made from it. Linked results share their files by hard links, so each
file is read once, whatever the number of its names.
"""

import hashlib
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lntune.commands.verify.findings import Basis, Findings
from lntune.config.catalog import LOCK, ORIGINS, CatalogLock
from lntune.errors import UserError
from lntune.plan.fetched import origins_of
from lntune.plan.node import Node, compared, manifest_path, result_folder
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


def check_stored(lock: CatalogLock, jobs: int, findings: Findings) -> tuple[Manifests, Held]:
    """Check manifests and files, ``jobs`` at a time, against each other; return those that are there."""
    manifests = _read_manifests(findings)
    for node, manifest in manifests.items():
        for what in _own_faults(node, manifest):
            findings.problem(manifest_path(findings.basis.store, node), what, [node])
    _check_contents(manifests, findings)
    held = _hash_results(jobs, findings)
    _check_files(manifests, held, findings)
    _check_fetched(held, lock, findings)
    return manifests, held


# --- manifests -----------------------------------------------------------------------------------------------------


def _read_manifests(findings: Findings) -> dict[Node, Manifest]:
    """The manifests of all results that are there; a damaged one is a problem and left out."""
    found = {}
    for node in findings.basis.done:
        path = manifest_path(findings.basis.store, node)
        try:
            found[node] = read_manifest(path)
        except UserError as error:
            findings.problem(path, str(error).removeprefix(f"{path}: "), [node])
    return found


def _own_faults(node: Node, manifest: Manifest) -> Iterator[str]:
    if manifest.name != node.path:
        yield f"says that it is {manifest.name}"
    try:
        edited = manifest.identity().id != manifest.id
    except ValueError:
        edited = True  # a number that no identity can hold
    if edited:
        changes = compared(node.identity, manifest.identity())  # today's plan goes by the same id
        texts = [f"{one.what} was {one.was} and is {one.now}" for one in changes]
        changed = f" ({'; '.join(texts[:_MOST_NAMES])})" if texts else ""
        yield f"was edited: its content does not make the id {manifest.id}{changed}"
    if content_digest(manifest.outputs) != manifest.content:
        yield "was edited: `content` is not the digest of its outputs"
    if manifest.seed != manifest.settings.get("seed"):
        yield f"was edited: it notes the seed {manifest.seed}, its settings {manifest.settings.get('seed')}"


def _check_contents(manifests: Manifests, findings: Findings) -> None:
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
            findings.problem(manifest_path(findings.basis.store, parent), what, [parent])
            continue
        for child in off:
            what = f"was made from other content than {parent.path} has, from which others were made"
            findings.problem(manifest_path(findings.basis.store, child), what, [child])


def _names(nodes: list[Node]) -> str:
    text = ", ".join(node.path for node in nodes[:_MOST_NAMES])
    return text + (f" and {len(nodes) - _MOST_NAMES} more" if len(nodes) > _MOST_NAMES else "")


# --- files ---------------------------------------------------------------------------------------------------------


def _hash_results(jobs: int, findings: Findings) -> dict[Node, dict[str, File]]:
    """Hash the files of all results that are there, ``jobs`` at a time; those that cannot be read are problems."""
    held, files = _listed(findings)
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


def _listed(findings: Findings) -> tuple[dict[Node, dict[str, File]], list[File]]:
    by_inode: dict[tuple[int, int], File] = {}
    held: dict[Node, dict[str, File]] = {}
    for node in findings.basis.done:
        folder, held[node] = result_folder(findings.basis.store, node), {}
        for path in sorted(folder.rglob("*")):
            name, status = path.relative_to(folder).as_posix(), path.lstat()
            if name == MANIFEST or stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode):
                findings.problem(path, "is a link or a device; a result holds plain files alone", [node])
                continue
            file = by_inode.setdefault((status.st_dev, status.st_ino), File(status.st_size))
            file.holders.append((node, path))
            held[node][name] = file
    return held, list(by_inode.values())


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


def _check_files(manifests: Manifests, held: Held, findings: Findings) -> None:
    """Compare what is there with the manifests: missing files, surplus ones, and those of other bytes."""
    for node, manifest in manifests.items():
        folder = result_folder(findings.basis.store, node)
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


def _check_fetched(held: Held, lock: CatalogLock, findings: Findings) -> None:
    """Compare fetched files with the sha256 that their result is named after, whatever their manifest says now.

    Those that the catalogue does not pin are compared with what the first download recorded, in ``lock``, and with what
    their own folder says that it found.
    """
    for node, files in held.items():
        for name, (sha256, what) in _known(findings.basis, node, lock).items():
            file = files.get(name)
            if file is None:
                findings.problem(result_folder(findings.basis.store, node) / name, MISSING, [node])
            elif file.sha256 and sha256 and file.sha256 != sha256:
                _off(findings, file, what)


def _known(basis: Basis, node: Node, lock: CatalogLock) -> dict[str, tuple[str | None, str]]:
    """Of each file of a fetch the sha256 that it must have, if known, and what is wrong with a file of another."""
    settings, execution = node.settings, node.execution
    if not isinstance(settings, FetchSettings):
        return {}
    assert isinstance(execution, FetchExecution)
    recorded, origins = lock.entries.get(execution.entry, {}), origins_of(result_folder(basis.store, node))
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


# --- notes ---------------------------------------------------------------------------------------------------------


def note_limits(manifests: Manifests, findings: Findings) -> None:
    """Note what is no fault, but bounds what a verification can say."""
    basis = findings.basis
    findings.notes += [*_deleted(basis), *_accepted(basis, manifests), *_linked(basis, manifests)]


def _deleted(basis: Basis) -> Iterator[str]:
    """Stage by stage, what was deleted although results rest on it: no fault, but there the chain ends."""
    done = set(basis.done)
    needed = {parent for node in basis.done for parent in node.parents()} - done
    deleted = [node for node in basis.nodes if node in needed]
    for stage in dict.fromkeys(node.stage for node in deleted):
        gone = [node for node in deleted if node.stage == stage]
        resting = len(basis.made_from(gone) & done)
        verb, them = ("was", "it") if len(gone) == 1 else ("were", "them")
        lost = f"{counted(resting, 'result')} that rest on {them} cannot be followed further there"
        yield f"{_names(gone)} {verb} deleted; {lost}"


def _accepted(basis: Basis, manifests: Manifests) -> Iterator[str]:
    """What rests on an edit that was declared equivalent: to change no result."""
    declared: dict[tuple[str, str, str], tuple[str, set[Node]]] = {}
    for node in basis.done:
        noted = manifests[node].accepted if node in manifests else ()
        for edit in (*node.code_version.accepted, *noted):
            changed = ", ".join([*edit.code, *edit.packages])
            declared.setdefault((edit.stage, edit.date, edit.because), (changed, set()))[1].add(node)
    for (stage, date, because), (changed, nodes) in declared.items():
        verb = "rests" if len(nodes) == 1 else "rest"
        edit_text = f"an edit declared equivalent on {date}: {because!r} ({changed})"
        yield f"{counted(len(nodes), 'result')} of {stage} {verb} on {edit_text}"


def _linked(basis: Basis, manifests: Manifests) -> Iterator[str]:
    """How many results were linked, and of how many the result that did the work is still there."""
    origins = [(node.stage, one.origin) for node, one in manifests.items() if one.origin is not None]
    if origins:
        there = sum(basis.store.is_done(stage, origin.label, origin.id) for stage, origin in origins)
        verb = "was" if len(origins) == 1 else "were"
        linked = f"{counted(len(origins), 'result')} {verb} linked instead of computed"
        yield f"{linked}; the results that did the work are there for {there} of {len(origins)}"
