"""What no current target needs any more: found, listed, and deleted on request (``lntune gc``).

    found = collect(Path("."))
    print(text(found))          # lntune.commands.gc.listing
    delete(found)               # lntune.commands.gc.deletion

A result stays if one of these needs it, or needs something that was made from it:

- a table or figure of any file in workflow/report_items under today's config, or the recipes of the demo's weights;
- a published file in tables/ or figures/ of this checkout, whatever config made it: the results that hold its bytes,
  or today's alone if that is one of them;
- another checkout's lease (:mod:`lntune.store.leases`), until it is forgotten;
- this checkout's own lease, which is its last run's: with overrides it asked for other results than config.yaml does,
  and after an edit of the code the next run may find there work that it need not do again. However old it is, only
  the next run supersedes it, or ``--forget``: time alone makes nothing garbage;
- a process that holds its lock.

What nobody here understands stays too: links, unknown names, results whose manifest cannot be read. A checkout that
has not run since there are leases is not known.

Every other result is garbage, and so is what dead processes left. Results share files by hard links, so deleting a
name harms no other result; only files whose every name is deleted count as freed.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from lntune.commands.gc.locks import is_held, workflow_running
from lntune.commands.gc.model import Garbage, Item, Kind, Small
from lntune.commands.gc.needed import (
    AT_WORK,
    TODAY,
    WEIGHTS,
    Needed,
    at_work,
    last_run_text,
    leased_text,
    leases_notes,
    published,
    todays_nodes,
)
from lntune.commands.gc.reasons import Reasons
from lntune.commands.gc.sizes import measured, size_of
from lntune.commands.gc.store_folders import (
    NAMED,
    Shelves,
    file_paths,
    folder_names,
    scratch_name,
    seconds_since_change,
)
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.plan.study import Study
from lntune.store.layout import MANIFEST
from lntune.store.leases import host_name, is_alive, is_of, leases_state, read_leases

_UNREADABLE = "with a manifest that cannot be read"
_OLD_SECONDS = 7 * 24 * 3600
_TEMPORARY = re.compile(r"\.(.+-[0-9a-f]{12})\.([A-Za-z0-9-]+)\.(\d+)\.[0-9a-f]{8}(?:\.old)?")


def collect(root: Path, overrides: Mapping[str, Any] | None = None) -> Garbage:
    """Everything in the store of a checkout that nothing needs; nothing is changed.

    Args:
        root: the checkout.
        overrides: values that win over config.yaml's.

    Raises:
        UserError: the config, a report item or a lease is wrong, so that what is needed is not known.
    """
    plan = Plan(Study.read(root, overrides))
    state = leases_state(plan.store)
    leases = read_leases(plan.store)
    own = next((lease for lease in leases if is_of(lease, root)), None)
    others = [lease for lease in leases if lease is not own]
    report_items, weights = todays_nodes(plan)
    shelves = Shelves(plan.store)
    needed = Needed(shelves)
    needed.add((f"{node.stage}/{node.name}" for node in report_items), TODAY)
    needed.add((f"{node.stage}/{node.name}" for node in weights), WEIGHTS)
    refusal, notes = workflow_running(root), []
    for file, results in published(root, shelves):
        if not results:
            notes.append(f"{file}: no result holds these bytes, so what it rests on is not known")
        if any(needed.reasons.get(name) == TODAY for name in results):
            continue
        for name in needed.add(results, f"needed by {file}"):
            if name in shelves.finished and shelves.manifest(name) is None:
                refusal = f"{plan.store.root / name}: its manifest cannot be read, so what {file} rests on is not known"
    for lease in others:
        needed.add(lease.names, leased_text(lease))
    if own:
        needed.add(own.names, last_run_text(own))
    needed.add(at_work(shelves), AT_WORK)
    leased = {name for lease in others for name in lease.names}
    finder = _Finder(shelves, needed.reasons, leased, Reasons([*report_items, *weights]))
    items = tuple(measured(finder.items()))
    notes += leases_notes(others, own, Counter(finder.kept.values()))
    small = tuple(finder.small(items))
    return Garbage(root, plan.store, items, small, finder.kept, tuple(notes), refusal, state)


class _Finder:
    """Looks through the shelves for what nothing needs."""

    def __init__(self, shelves: Shelves, needed: Mapping[str, str], leased: Collection[str], reasons: Reasons) -> None:
        self._shelves, self._root = shelves, shelves.store.root
        self._needed, self._leased, self._reasons = needed, leased, reasons
        self.kept: dict[str, str] = {}

    def items(self) -> list[Item]:
        """All folders that can go, unmeasured, in the order of deletion."""
        return [*self._temporary(), *self._scratch(), *self._unfinished(), *self._results()]

    def _item(self, kind: Kind, name: str, lock: Path, reason: str) -> Item:
        return Item(kind, name.partition("/")[0], self._root / name, lock, reason)

    def _results(self) -> list[Item]:
        found: dict[str, Item] = {}
        for name in self._shelves.finished:
            manifest = self._shelves.manifest(name)
            if name in self._needed:
                self.kept[name] = self._needed[name]
            elif manifest is None:
                self.kept[name] = _UNREADABLE
            else:
                found[name] = self._item("result", name, self._shelves.lock(name), self._reasons.of(manifest))

        @cache
        def height(name: str) -> int:
            manifest = self._shelves.manifest(name)
            above = manifest.parents() if manifest else ()
            return 1 + max((height(record.name) for _, record in above if record.name in found), default=0)

        return [found[name] for name in sorted(found, key=lambda name: (-height(name), name))]

    def _unfinished(self) -> Iterator[Item]:
        for name in self._shelves.unfinished:
            lock = self._shelves.lock(name)
            # Another checkout's Snakemake makes the folders of its outputs before the jobs run.
            if name.partition("/")[0] in STAGES and name not in self._leased and not is_held(lock):
                yield self._item("unfinished", name, lock, "a result that was never finished")

    def _temporary(self) -> Iterator[Item]:
        for name in self._shelves.temporary:
            stage, _, folder = name.partition("/")
            match = _TEMPORARY.fullmatch(folder)
            if match is None:
                continue
            plain, host, process = match.groups()
            scratch = self._root / ".scratch" / (plain if stage == ".scratch" else scratch_name(f"{stage}/{plain}"))
            lock = scratch.with_name(f"{scratch.name}.lock")
            left = _left_by(
                host, int(process), min(seconds_since_change(self._root / name), seconds_since_change(scratch))
            )
            if left and not is_held(lock):
                yield self._item("temporary", name, lock, left)

    def _scratch(self) -> Iterator[Item]:
        needed = {scratch_name(name) for name in self._needed}
        for name in self._shelves.scratch:
            lock = self._root / ".scratch" / f"{name}.lock"
            finished = name in self._shelves.ids
            if (finished or name not in needed) and not is_held(lock):
                reason = f"scratch of a result that {'is finished' if finished else 'nothing needs'}"
                yield replace(self._item("scratch", f".scratch/{name}", lock, reason), stage=name.rpartition("-")[0])

    def small(self, items: Iterable[Item]) -> Iterator[Small]:
        """Orders, marks and locks that can go with the items."""
        gone = {f"{item.stage}/{item.path.name}" for item in items if item.kind == "result"}
        finished = set(self._shelves.finished)
        for stage in folder_names(self._root / ".jobs"):
            for path in file_paths(self._root / ".jobs" / stage):
                if self._is_spent(path, f"{stage}/{path.stem}", finished):
                    yield Small("order", path, size_of(path))
        for path in self._shelves.marks:
            name = f"{path.parent.parent.name}/{path.name}"
            if (name not in finished or name in gone) and not is_held(self._shelves.lock(name)):
                yield Small("mark", path, size_of(path), self._root / name / MANIFEST)
        for path in file_paths(self._root / ".scratch"):
            if path.suffix == ".lock" and NAMED.fullmatch(path.stem) and not is_held(path):
                yield Small("lock", path, size_of(path))

    def _is_spent(self, spec: Path, name: str, finished: Collection[str]) -> bool:
        """Whether an order, or a half-written one, will not be read any more."""
        if spec.name.startswith("."):
            return seconds_since_change(spec) > _OLD_SECONDS
        if name in self._leased and seconds_since_change(spec) < _OLD_SECONDS:
            return False  # a job of the other checkout may wait in a queue with it, though the result is there by now
        spent = spec.suffix == ".json" and (name in finished or name not in self._needed)
        return spent and not is_held(self._shelves.lock(name))


def _left_by(host: str, process: int, age: float) -> str | None:
    """Who left a temporary folder that has not changed for ``age`` seconds; None if it may still be at work."""
    if host == host_name():
        return None if is_alive(process) else "left by a process that died"
    return "left by a process of another host over a week ago" if age > _OLD_SECONDS else None
