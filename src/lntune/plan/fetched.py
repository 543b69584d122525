"""What finished fetches say of their files, and whether that agrees with what the first downloads recorded."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.config.catalog import LOCK, ORIGINS, CatalogLock, LockedFile, Place, web_address
from lntune.errors import UserError
from lntune.plan.node import Node, is_done, result_folder
from lntune.stages.fetch import COPY, Execution, Settings
from lntune.store.manifest import Manifest, Store


@dataclass(frozen=True)
class FetchedFile:
    """One file of a finished fetch: where it came from, and where it lies in the checkout, or on the machine.

    ``sha256`` is None if nobody pinned it and ``origins.json`` is lost; ``recorded`` says that it is what the first
    download found, and not the catalogue's; ``copied``, that it came from a disk instead of its address.
    """

    name: str
    sha256: str | None
    url: str | None
    path: str | None
    recorded: bool
    copied: bool


def to_fetch(node: Node, recorded: CatalogLock) -> tuple[int, int, list[str]]:
    """Bytes that a node downloads and copies, and files of unknown size; by catalogue, record and copies."""
    download = copied = 0
    unknown: list[str] = []
    if isinstance(node.execution, Execution):
        known = recorded.entries.get(node.execution.entry, {})
        for name, place in node.execution.places.items():
            source = node.execution.copies.get(name) or place.path
            if source is not None:
                path = Path(node.execution.root, source)
                copied += path.stat().st_size if path.is_file() else 0
                continue
            size = known[name].bytes if place.bytes is None and name in known else place.bytes
            download += size or 0
            unknown += [name] if size is None else []
    return download, copied, unknown


def origins_of(folder: Path) -> dict[str, LockedFile]:
    """What a fetched folder says of its files; nothing if that is lost."""
    try:
        told = json.loads((folder / ORIGINS).read_bytes())
        return {name: LockedFile.model_validate(one) for name, one in told.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def fetched_files(manifest: Manifest, folder: Path) -> list[FetchedFile]:
    """The files of a finished fetch, as its manifest and its folder tell."""
    settings: Any = manifest.settings
    execution: Any = manifest.execution
    pinned, origins, found = settings["files"], origins_of(folder), []
    for name, place in execution["places"].items():
        place, origin = Place(**place), origins[name].origin if name in origins else ""
        found.append(
            FetchedFile(
                name=name,
                sha256=pinned.get(name) or (origins[name].sha256 if name in origins else None),
                url=web_address(origin) or web_address(place.address or ""),
                path=place.path,
                recorded=name not in pinned,
                copied=origin.startswith(COPY),
            )
        )
    return found


def check_recorded(store: Store, nodes: Iterable[Node], lock: CatalogLock) -> None:
    """Whether finished fetches hold what the first downloads recorded; it reads one small file of each.

    Only files that the catalogue does not pin are looked at: of the others the result's name is the proof. UserError
    names a folder that was fetched when its source held another file than was recorded.
    """
    for node in nodes:
        if not isinstance(node.settings, Settings) or not node.settings.addresses or not is_done(store, node):
            continue
        assert isinstance(node.execution, Execution)
        recorded, folder = lock.entries.get(node.execution.entry, {}), result_folder(store, node)
        for name, found in origins_of(folder).items():
            known = recorded.get(name)
            if name in node.settings.addresses and known is not None and known.sha256 != found.sha256:
                raise UserError(
                    f"{folder}: its {name} has the sha256 {found.sha256}, {LOCK} records {known.sha256}; delete the "
                    f"folder to fetch what is recorded, or correct the record if it is the wrong one (docs/data.md)"
                )
