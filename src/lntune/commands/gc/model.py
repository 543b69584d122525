"""What can be deleted and what stays, as :func:`lntune.commands.gc.collect.collect` finds it and others read it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lntune.store.layout import Store

Kind = Literal["result", "unfinished", "temporary", "scratch"]
SmallKind = Literal["order", "mark", "lock"]


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
    """A small file that leads nowhere; ``target`` is the manifest that a mark leads to."""

    kind: SmallKind
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
        small: orders, marks and locks that can go.
        kept: all other finished results, ``stage/label-id`` to why they stay.
        notes: what a person should know, a line each.
        refusal: why nothing can be deleted now, if so.
        claims: the state of the claims that this rests on.
    """

    root: Path
    store: Store
    items: tuple[Item, ...]
    small: tuple[Small, ...]
    kept: Mapping[str, str]
    notes: tuple[str, ...]
    refusal: str | None
    leases: frozenset[tuple[str, int]]

    @property
    def freed(self) -> int:
        """Bytes that deleting all of it would free."""
        return sum(item.freed for item in self.items) + sum(one.bytes for one in self.small)

    @property
    def kept_counts(self) -> dict[str, int]:
        """Reason to the number of results that stay for it, the most frequent first."""
        return dict(Counter(self.kept.values()).most_common())


@dataclass(frozen=True)
class Deleted:
    """What was deleted: folders, small files and bytes; ``failures`` says in a line each what was not, and why."""

    folders: int
    small: int
    freed: int
    failures: tuple[str, ...]
