"""What can go and what was deleted, as values, as text and as JSON."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lntune.store.manifest import Store
from lntune.units import bytes_text, counted

Kind = Literal["result", "unfinished", "temporary", "scratch"]
_LISTED_IN_FULL = 20
_MOST_GROUPS = 25


@dataclass(frozen=True)
class Item:
    """A folder that can go. ``bytes`` are those of its files, ``freed`` those that no other name holds then."""

    kind: Kind
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

    Attributes:
        root: the checkout.
        store: the store.
        items: folders that can go.
        small: small files that can go.
        stays: all other finished results, ``stage/label-id`` to why they stay.
        notes: what a person should know, a line each.
        refusal: why nothing can be deleted now, if so.
        leases: the state of the leases that this rests on.
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
        return sum(item.freed for item in self.items) + sum(one.bytes for one in self.small)


@dataclass(frozen=True)
class Deleted:
    """What was deleted: folders, small files and bytes; ``failures`` has a line for each that was not, and why."""

    folders: int
    small: int
    freed: int
    failures: tuple[str, ...]


def text(garbage: Garbage, *, everything: bool = False) -> str:
    """A listing by stage and reason, the biggest first; ``everything`` names all folders however many there are."""
    number = len(garbage.stays)
    lines = [f"{counted(number, 'result')} {'stays' if number == 1 else 'stay'}:" if number else "no result stays"]
    lines += [f"{count:7}  {reason}" for reason, count in Counter(garbage.stays.values()).most_common()]
    lines += [f"note: {note}" for note in garbage.notes]
    if garbage.items:
        lines += ["", *_table(garbage.items, everything or len(garbage.items) <= _LISTED_IN_FULL)]
    if garbage.small:
        lines += ["", f"and small files of no more use: {_small_text(garbage.small)}"]
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


def deleted_text(done: Deleted) -> str:
    """What was deleted, in one line; the failures are for standard error."""
    small = f" and {counted(done.small, 'small file')}" if done.small else ""
    return f"{counted(done.folders, 'folder')}{small} deleted, {bytes_text(done.freed)} freed"


def _verdict(garbage: Garbage) -> str:
    if not garbage.items and not garbage.small:
        return "nothing to collect"
    results = all(item.kind == "result" for item in garbage.items)
    number = counted(len(garbage.items), "result" if results else "folder")
    if not garbage.items:
        number = counted(len(garbage.small), "small file")
    freed = f"{number}, {bytes_text(garbage.freed)} would be freed"
    return f"{freed}; not now: {garbage.refusal}" if garbage.refusal else f"{freed}; `lntune gc --delete` deletes them"


def _small_text(small: Sequence[Small]) -> str:
    counts = Counter(one.kind for one in small)
    return f"{', '.join(counted(counts[kind], kind) for kind in sorted(counts))} ({bytes_text(_sum(small))})"


def _sum(things: Iterable[Item | Small]) -> int:
    return sum(one.bytes for one in things)


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
        freed = bytes_text(sum(item.freed for item in group))
        yield f"{freed:>8} {bytes_text(_sum(group)):>8} {len(group):8}  {stage:<{width}}  {reason}"
        group.sort(key=lambda item: _weight([item]), reverse=True)
        for item in group if in_full else group[:1]:
            more = f" and {len(group) - 1} more" if not in_full and len(group) > 1 else ""
            yield f"{bytes_text(item.freed):>8} {bytes_text(item.bytes):>8} {'':>10}  {item.path.name}{more}"
    rest = [item for _, group in ordered[len(shown) :] for item in group]
    if rest:
        freed = bytes_text(sum(item.freed for item in rest))
        groups_left = len(ordered) - len(shown)
        yield f"{freed:>8} {bytes_text(_sum(rest)):>8} {len(rest):8}  in {groups_left} smaller groups"
    if not in_full:
        yield f"{'':28}(`--all` names every folder)"


def _weight(group: Sequence[Item]) -> tuple[int, int, int]:
    return sum(item.freed for item in group), _sum(group), len(group)
