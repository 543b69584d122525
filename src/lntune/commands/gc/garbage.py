"""What can go: as values, as text and as JSON; and its deletion, so that at no moment half a result is believed."""

import errno
import os
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lntune.errors import UserError
from lntune.files import locked
from lntune.progress import track
from lntune.store.leases import host_name, leases_state, other_run
from lntune.store.manifest import MANIFEST, Store
from lntune.units import bytes_text, counted

_LISTED_IN_FULL = 20
_MOST_GROUPS = 25


@dataclass(frozen=True)
class Item:
    """A folder that can go. ``bytes`` are those of its files, ``freed`` those that no other name holds then."""

    kind: Literal["result", "unfinished", "temporary", "scratch"]
    stage: str
    path: Path
    lock: Path
    reason: str
    bytes: int = 0
    freed: int = 0


@dataclass(frozen=True)
class Small:
    """A small file that is of no more use; ``target`` is the manifest that a mark leads to."""

    kind: Literal["job spec", "mark", "lock"]
    path: Path
    bytes: int
    target: Path | None = None


@dataclass(frozen=True)
class Garbage:
    """What can be deleted, in the order of deletion: what was made from others comes before them.

    ``stays`` tells of all other finished results, ``stage/label-id``, why they stay; ``notes`` are lines for a person;
    ``refusal`` is why nothing can be deleted now; ``leases`` is the state of the leases that this rests on.
    """

    root: Path
    store: Store
    items: tuple[Item, ...]
    small: tuple[Small, ...]
    stays: Mapping[str, str]
    notes: tuple[str, ...]
    refusal: str | None
    leases: frozenset[tuple[str, int]]

    @property
    def freed(self) -> int:
        """Bytes that deleting all of it would free."""
        return _freed(self.items) + _sum(self.small)


def text(garbage: Garbage) -> str:
    """A listing by stage and reason, the biggest first."""
    number = len(garbage.stays)
    lines = [f"{counted(number, 'result')} {'stays' if number == 1 else 'stay'}:" if number else "no result stays"]
    lines += [f"{count:7}  {reason}" for reason, count in Counter(garbage.stays.values()).most_common()]
    lines += [f"note: {note}" for note in garbage.notes]
    if garbage.items:
        lines += ["", *_table(garbage.items, len(garbage.items) <= _LISTED_IN_FULL)]
    if garbage.small:
        counts = sorted(Counter(one.kind for one in garbage.small).items())
        kinds = ", ".join(counted(count, kind) for kind, count in counts)
        lines += ["", f"and small files of no more use: {kinds} ({bytes_text(_sum(garbage.small))})"]
    return "\n".join([*lines, "", _verdict(garbage)])


def document(garbage: Garbage) -> dict[str, Any]:
    """The whole as JSON values: every folder and every small file, and of every result that stays why it does."""
    keys = ("kind", "stage", "reason", "bytes", "freed")
    return {
        "store": str(garbage.store.root),
        "items": [{"path": str(item.path)} | {key: getattr(item, key) for key in keys} for item in garbage.items],
        "small": [{"path": str(one.path), "kind": one.kind, "bytes": one.bytes} for one in garbage.small],
        "freed": garbage.freed,
        "stays": dict(sorted(garbage.stays.items())),
        "notes": list(garbage.notes),
        "refusal": garbage.refusal,
    }


def _verdict(garbage: Garbage) -> str:
    if not garbage.items and not garbage.small:
        return "nothing to collect"
    noun = "result" if all(item.kind == "result" for item in garbage.items) else "folder"
    number = counted(len(garbage.items), noun) if garbage.items else counted(len(garbage.small), "small file")
    freed = f"{number}, {bytes_text(garbage.freed)} would be freed"
    return f"{freed}; not now: {garbage.refusal}" if garbage.refusal else f"{freed}; `lntune gc --delete` deletes them"


def _table(items: Sequence[Item], in_full: bool) -> Iterator[str]:
    """Lines of freed bytes, all bytes, number, stage and reason; below each the biggest folder, or all of them."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        groups[item.stage, item.reason].append(item)
    ordered = sorted(groups.items(), key=lambda pair: _weight(pair[1]), reverse=True)
    shown = ordered if in_full else ordered[:_MOST_GROUPS]
    width = max(len(stage) for (stage, _), _ in shown)
    yield f"{'freed':>8} {'of':>8} {'folders':>8}  {'stage':<{width}}  why"
    for (stage, reason), group in shown:
        yield f"{_amounts(group)} {len(group):8}  {stage:<{width}}  {reason}"
        group.sort(key=lambda item: _weight([item]), reverse=True)
        for item in group if in_full else group[:1]:
            more = f" and {len(group) - 1} more" if not in_full and len(group) > 1 else ""
            yield f"{_amounts([item])} {'':>10}  {item.path.name}{more}"
    rest = [item for _, group in ordered[len(shown) :] for item in group]
    if rest:
        yield f"{_amounts(rest)} {len(rest):8}  in {len(ordered) - len(shown)} smaller groups"
    if not in_full:
        yield f"{'':28}(`--json` names every folder)"


def _amounts(items: Sequence[Item]) -> str:
    return f"{bytes_text(_freed(items)):>8} {bytes_text(_sum(items)):>8}"


def _weight(items: Sequence[Item]) -> tuple[int, int, int]:
    return _freed(items), _sum(items), len(items)


def _freed(items: Sequence[Item]) -> int:
    return sum(item.freed for item in items)


def _sum(things: Sequence[Item | Small]) -> int:
    return sum(one.bytes for one in things)


@dataclass(frozen=True)
class Deleted:
    """What was deleted: folders, small files and bytes; ``failures`` has a line for each that was not, and why."""

    folders: int
    small: int
    freed: int
    failures: tuple[str, ...]

    @property
    def text(self) -> str:
        """What was deleted, in one line, without the failures."""
        small = f" and {counted(self.small, 'small file')}" if self.small else ""
        return f"{counted(self.folders, 'folder')}{small} deleted, {bytes_text(self.freed)} freed"


def delete(garbage: Garbage) -> Deleted:
    """Delete what was collected, as far as it can be deleted, until a workflow starts here or on the same store.

    A folder is first renamed to a hidden name; if this process is killed, the next collection finds what is left.
    UserError, and nothing is deleted, if a workflow runs here or what a published file rests on is not known.
    """
    refusal = garbage.refusal or workflow_running(garbage.root)
    if refusal:
        raise UserError(refusal)
    folders, freed, failures = 0, 0, list[str]()
    if garbage.items:
        with track(len(garbage.items), "gc", "folders") as progress:
            for item in garbage.items:
                if disturbance := _disturbance(garbage):
                    return Deleted(folders, 0, freed, (*failures, disturbance))
                if problem := _delete(item):
                    failures.append(problem)
                else:
                    folders, freed = folders + 1, freed + item.freed
                progress.advance(1)
    problems = [(one, _delete_small(one)) for one in garbage.small]
    failed = [problem for _, problem in problems if problem]
    if failed:
        failures.append(failed[0] + (f" (and {len(failed) - 1} more small files)" if len(failed) > 1 else ""))
    freed += sum(one.bytes for one, problem in problems if not problem)
    return Deleted(folders, len(garbage.small) - len(failed), freed, tuple(failures))


def workflow_running(root: Path) -> str | None:
    """A line if a workflow runs in a checkout."""
    sign = other_run(root)
    return f"{sign.parent}: a workflow runs here ({sign.name}); wait for it" if sign else None


def _disturbance(garbage: Garbage) -> str | None:
    """Why to stop: someone may need by now what was garbage."""
    if leases_state(garbage.store) != garbage.leases:
        return f"{garbage.store.root}: a workflow has started meanwhile; run `lntune gc` again"
    return workflow_running(garbage.root)


def _delete(item: Item) -> str | None:
    """Delete a folder; a line if it could not be deleted."""
    hidden = item.path
    try:
        with locked(item.lock, lambda: False, shared=True) as alone:
            if not alone:
                return f"{item.path}: a process has begun to work on it; left as it is"
            if item.kind == "unfinished" and (item.path / MANIFEST).exists():
                return f"{item.path}: finished meanwhile; left as it is"
            for path, _, _ in os.walk(item.path):  # not begun if it cannot be ended
                if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if item.kind != "temporary":
                ours = f"{host_name()}.{os.getpid()}.{secrets.token_hex(4)}.old"
                hidden = item.path.with_name(f".{item.path.name}.{ours}")
                os.rename(item.path, hidden)
        (hidden / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(hidden)
    except FileNotFoundError:
        return None  # another collection took it
    except OSError as error:
        left = "left as it is" if item.path.exists() else f"what is left of it lies in {hidden}"
        return f"{item.path}: {error.strerror}; {left}"
    return None


def _delete_small(one: Small) -> str | None:
    """Delete a small file if it is still of no use; a line if it could not be deleted."""
    try:
        if one.kind == "lock":
            with locked(one.path, lambda: False, shared=True):
                return None
        if one.target is None or not one.target.exists():
            one.path.unlink(missing_ok=True)
            if one.kind == "mark":
                with suppress(OSError):  # other marks are there
                    one.path.parent.rmdir()
    except OSError as error:
        return f"{one.path}: {error.strerror}; left as it is"
    return None
