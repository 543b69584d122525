"""``lntune gc``: what no current target needs any more; docs/provenance.md says what keeps a result.

What is not understood stays too: links, unknown names, results whose manifest cannot be read. A checkout that has
never written a lease is not known. Every other result is garbage, and so is what dead processes left.
"""

import json
import math
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from lntune.commands.gc.garbage import Garbage, Item, Small, workflow_running
from lntune.errors import UserError
from lntune.files import is_locked
from lntune.jobs.states import STATES
from lntune.plan.node import Node, closure, compared
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES, STAGES_OF_REPORT_ITEMS
from lntune.plan.study import Study
from lntune.plan.targets import FORMATS
from lntune.snakefile.demo_weights import RECIPES, DemoWeightsPlan
from lntune.store.job import LEFT
from lntune.store.leases import Lease, host_name, is_alive, is_of, leases_state, read_leases
from lntune.store.manifest import MANIFEST, Manifest, Store, read_manifest

_TODAY = "needed by a table or figure of today's config"
_OLD_SECONDS = 7 * 24 * 3600
_MOST_NAMES = 3
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{12}")
_TEMPORARY = re.compile(r"\.(.+-[0-9a-f]{12})\.([A-Za-z0-9-]+)\.(\d+)\.[0-9a-f]{8}(?:\.old)?")


def collect(root: Path, overrides: Mapping[str, Any] | None = None) -> Garbage:
    """Everything in the store of the checkout ``root`` that nothing needs; UserError if what is needed is not known."""
    here = Path(".")  # what is published, runs and leases is a run's own: with -d not the checkout's
    plan = Plan(Study.read(root, overrides))
    state, leases = leases_state(plan.store), read_leases(plan.store)
    folders = _StoreFolders(plan.store)
    report_items = closure(list(map(plan.report_item, plan.known_items())))
    weights = closure([*DemoWeightsPlan(root).nodes().values()]) if (root / RECIPES).is_file() else []
    for nodes, reason in ((report_items, _TODAY), (weights, "one of the demo's weights")):
        folders.keep((node.path for node in nodes), reason)
    refusal, notes = workflow_running(here), []
    for file, results in _published(here, folders):
        if not results:
            notes.append(f"{file}: no result holds these bytes, so what it rests on is not known")
        if any(folders.needed.get(name) == _TODAY for name in results):
            continue
        for name in folders.keep(results, f"needed by {file}"):
            if name in folders.finished and folders.finished[name] is None:
                refusal = f"{plan.store.root / name}: its manifest cannot be read, so what {file} rests on is not known"
    for lease in sorted(leases, key=lambda lease: is_of(lease, here)):  # this checkout's own comes last
        folders.keep(lease.names, _lease_reason(lease, here))
    folders.keep(_at_work(folders), "needed by a process at work")

    leased = {name for lease in leases if not is_of(lease, here) for name in lease.names}
    results_to_go = _results(folders, _differences([*report_items, *weights]))
    items = [*_temporary(folders), *_scratch(folders), *_unfinished(folders, leased), *results_to_go]
    stays = {
        name: folders.needed.get(name, "with a manifest that cannot be read")
        for name, manifest in folders.finished.items()
        if name in folders.needed or manifest is None
    }
    small = tuple(_small(folders, leased, items))
    return Garbage(here, plan.store, tuple(_measured(items)), small, stays, tuple(notes), refusal, state)


class _StoreFolders:
    """What lies in a store now: results, what processes left next to them, and marks. Links are not followed.

    ``finished`` holds manifests by ``stage/label-id``; None for one that cannot be read or is another result's.
    ``needed`` tells of results that stay, made or not, why.
    """

    def __init__(self, store: Store) -> None:
        self.root, self.scratch_root = store.root, store.root / ".scratch"
        self.needed: dict[str, str] = {}
        works = [work for stage in _folders(store.root / ".works") for work in _folders(stage)]
        # Looked for before the results: a mark is older than what it leads to.
        self.marks = [path for work in works for path in _files(work) if _NAMED.fullmatch(path.name)]
        self.finished: dict[str, Manifest | None] = {}
        self.unfinished: list[str] = []
        self.temporary: list[Path] = []
        for stage in _folders(store.root):
            for folder in () if stage.name.startswith(".") else _folders(stage):
                name = f"{stage.name}/{folder.name}"
                if folder.name.startswith("."):
                    self.temporary.append(folder)
                elif _NAMED.fullmatch(folder.name) and (folder / MANIFEST).is_file():
                    self.finished[name] = _manifest(folder, name)
                elif _NAMED.fullmatch(folder.name):
                    self.unfinished.append(name)
        scratch = _folders(self.scratch_root)
        self.temporary += [path for path in scratch if path.name.startswith(".")]
        self.scratch = [path for path in scratch if _NAMED.fullmatch(path.name)]

    def lock(self, name: str) -> Path:
        """The lock of whoever makes the result ``stage/label-id``."""
        return self.scratch_root / f"{_scratch_name(name)}.lock"

    def keep(self, names: Iterable[str], reason: str) -> list[str]:
        """Keep results and what manifests say they were made from; return the new ones. The first reason counts."""
        added, open_ends = [], list(names)
        while open_ends:
            name = open_ends.pop()
            if name not in self.needed:
                self.needed[name] = reason
                added.append(name)
                manifest = self.finished.get(name)
                # A parent may have another label than today's node of the same id: the manifest knows its folder.
                open_ends += [record.name for _, record in manifest.parents()] if manifest else []
        return added


def _manifest(folder: Path, name: str) -> Manifest | None:
    with suppress(UserError):
        manifest = read_manifest(folder / MANIFEST)
        return manifest if manifest.name == name else None
    return None


def _scratch_name(name: str) -> str:
    """``stage/label-id`` as its scratch is called: ``stage-id``."""
    return f"{name.partition('/')[0]}-{name.rpartition('-')[2]}"


def _folders(parent: Path) -> list[Path]:
    """The folders in a folder; none where it cannot be read."""
    with suppress(OSError), os.scandir(parent) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    return []


def _files(parent: Path) -> list[Path]:
    """The plain files in a folder; none where it cannot be read."""
    with suppress(OSError), os.scandir(parent) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    return []


def _age(path: Path) -> float:
    """Seconds since the last change of a file, or of a folder and what lies directly in it; endless for nothing."""
    try:
        inside = [path / name for name in os.listdir(path)] if path.is_dir() else []
        return time.time() - max(os.lstat(one).st_mtime for one in [path, *inside])
    except FileNotFoundError:
        return math.inf


def _published(root: Path, folders: _StoreFolders) -> Iterator[tuple[str, list[str]]]:
    """Every published file, and the results of tables and figures that hold its bytes."""
    report_items = [name for name in folders.finished if name.partition("/")[0] in STAGES_OF_REPORT_ITEMS]
    for folder, formats in FORMATS.items():
        for file in _files(root / folder):
            if file.suffix[1:] in formats and not file.name.startswith("."):
                shown = file.read_bytes()
                held = {name: folders.root / name / file.name for name in report_items}
                found = [name for name, path in held.items() if path.is_file() and path.read_bytes() == shown]
                yield f"{folder}/{file.name}", found


def _at_work(folders: _StoreFolders) -> Iterator[str]:
    """What processes are making now, and what their job specs name as inputs."""
    held = {lock.stem for lock in _files(folders.scratch_root) if lock.suffix == ".lock" and is_locked(lock)}
    yield from (name for name in folders.finished if _scratch_name(name) in held)
    for stage, _, id in (name.rpartition("-") for name in sorted(held)):
        for spec in (folders.root / ".jobs" / stage).glob(f"*-{id}.json"):
            with suppress(OSError, ValueError, KeyError):
                document = json.loads(spec.read_bytes())
                for given in document["inputs"].values():
                    for folder in [given] if isinstance(given, str) else given:
                        yield "/".join(Path(folder).relative_to(document["store"]).parts[:2])


def _lease_reason(lease: Lease, root: Path) -> str:
    own = f"needed by this checkout's last run, on {lease.written:%Y-%m-%d}"
    return own if is_of(lease, root) else f"leased by {lease.text}"


def _differences(nodes: Iterable[Node]) -> Callable[[Manifest], str]:
    """What tells of a finished result that is none of these, today's, why not; of one cause in the same words."""
    named: dict[tuple[str, str], list[Node]] = defaultdict(list)
    ids: dict[tuple[str, str], Node] = {}
    for node in nodes:
        named[node.stage, node.label].append(node)
        ids[node.stage, node.id] = node

    def text(manifest: Manifest) -> str:
        if renamed := ids.get((manifest.stage, manifest.id)):
            return f"today it is called {renamed.label}"
        identity = manifest.identity()
        found = [list(compared(identity, node.identity)) for node in named[manifest.stage, manifest.label]]
        if not found:
            return "no table or figure needs it"
        texts = [reason.text for reason in min(found, key=len)]
        more = f"; and {len(texts) - _MOST_NAMES} more" if len(texts) > _MOST_NAMES else ""
        return f"today's differs: {'; '.join(texts[:_MOST_NAMES]) or 'in its name alone'}{more}"

    return text


def _results(folders: _StoreFolders, difference: Callable[[Manifest], str]) -> Iterator[Item]:
    found = {name: made for name, made in folders.finished.items() if made and name not in folders.needed}

    @cache
    def height(name: str) -> int:
        parents = (record.name for _, record in found[name].parents())
        return 1 + max((height(parent) for parent in parents if parent in found), default=0)

    for name in sorted(found, key=lambda name: (-height(name), name)):
        made = found[name]
        yield Item("result", made.stage, folders.root / name, folders.lock(name), difference(made))


def _unfinished(folders: _StoreFolders, leased: Collection[str]) -> Iterator[Item]:
    for name in folders.unfinished:
        stage, lock = name.partition("/")[0], folders.lock(name)
        # Another checkout's Snakemake makes the folders of its outputs before the jobs run.
        if stage in STAGES and name not in leased and not is_locked(lock):
            yield Item("unfinished", stage, folders.root / name, lock, "a result that was never finished")


def _temporary(folders: _StoreFolders) -> Iterator[Item]:
    for path in folders.temporary:
        match = _TEMPORARY.fullmatch(path.name)
        if match is None:
            continue
        name, host, process = match.groups()
        stage = path.parent.name
        scratch = folders.scratch_root / (name if stage == ".scratch" else _scratch_name(f"{stage}/{name}"))
        lock = scratch.with_name(f"{scratch.name}.lock")
        here = host == host_name()
        left = not is_alive(int(process)) if here else min(_age(path), _age(scratch)) > _OLD_SECONDS
        if left and not is_locked(lock):
            reason = f"left by a process {'that died' if here else 'of another host over a week ago'}"
            yield Item("temporary", stage, path, lock, reason)


def _scratch(folders: _StoreFolders) -> Iterator[Item]:
    needed, finished = set(map(_scratch_name, folders.needed)), set(map(_scratch_name, folders.finished))
    for path in folders.scratch:
        lock = path.with_name(f"{path.name}.lock")
        left = path.name in needed and (path / LEFT).exists()  # to a job that is still to come
        if (path.name in finished or path.name not in needed) and not left and not is_locked(lock):
            reason = f"scratch of a result that {'is finished' if path.name in finished else 'nothing needs'}"
            yield Item("scratch", path.name.rpartition("-")[0], path, lock, reason)


def _small(folders: _StoreFolders, leased: Collection[str], items: Iterable[Item]) -> Iterator[Small]:
    """Job specs, marks and locks that can go with the items."""
    gone = {f"{item.stage}/{item.path.name}" for item in items if item.kind == "result"}
    for stage in _folders(folders.root / ".jobs"):
        for path in _files(stage):
            if _is_spent(path, f"{stage.name}/{path.stem}", folders, leased):
                yield Small("job spec", path, _size(path))
    for path in folders.marks:
        name = f"{path.parent.parent.name}/{path.name}"
        if (name not in folders.finished or name in gone) and not is_locked(folders.lock(name)):
            yield Small("mark", path, _size(path), folders.root / name / MANIFEST)
    for path in _files(folders.scratch_root):
        if path.suffix == ".lock" and _NAMED.fullmatch(path.stem) and not is_locked(path):
            yield Small("lock", path, _size(path))


def _is_spent(spec: Path, name: str, folders: _StoreFolders, leased: Collection[str]) -> bool:
    """Whether a job spec, or a half-written one, will not be read any more."""
    if spec.name.startswith("."):
        return _age(spec) > _OLD_SECONDS
    if name in leased and _age(spec) < _OLD_SECONDS:
        return False  # a job of the other checkout may wait in a queue with it, though the result is there by now
    spent = spec.suffix in (".json", *STATES) and (name in folders.finished or name not in folders.needed)
    return spent and not is_locked(folders.lock(name))


def _size(path: Path) -> int:
    """A file's bytes; 0 if it is gone."""
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def _measured(items: Sequence[Item]) -> Iterator[Item]:
    """The items with their sizes; results share files by links, and a file is freed with the last of its names."""
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
    for path in _files(folder):
        with suppress(OSError):
            stat = path.lstat()
            yield (stat.st_dev, stat.st_ino), stat.st_nlink, stat.st_size
    for inside in _folders(folder):
        yield from _inodes(inside)
