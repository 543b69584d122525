"""What lies in a store by stage and label, and early cut-off: work that was done before is linked, not done again.

docs/provenance.md says what the same work is; that a search kept it, and what it could go on from, count for nothing.
Every result leaves a mark ``<store>/.works/<stage>/<work>/<folder>``, a copy of its manifest. A mark is a hint: what it
leads to is believed after its manifest has been read and its files have been seen.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from blake3 import blake3

from lntune.errors import UserError
from lntune.files import link_or_copy
from lntune.store.identity import Identity, digest, hash_file
from lntune.store.job import EARLIER, KEPT
from lntune.store.manifest import (
    MANIFEST,
    InputRecord,
    Manifest,
    Origin,
    Store,
    read_manifest,
    remedy,
    write_manifest,
)


class ResultIndex:
    """A store's folders as they are when first looked at; manifests are read when they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @cache  # noqa: B019 - an index lives as long as its process
    def labels(self, stage: str) -> dict[str, list[Path]]:
        """Label to the folders of the stage's results that bear it, finished or not."""
        found: dict[str, list[Path]] = defaultdict(list)
        with suppress(FileNotFoundError):
            for name in os.listdir(self._store.root / stage):
                if not name.startswith("."):
                    found[name.rpartition("-")[0]].append(self._store.root / stage / name)
        return found

    @cache  # noqa: B019
    def named(self, stage: str, label: str) -> list[Manifest]:
        """The manifests of the finished results with this label, the newest first; damaged ones are left out."""
        found = []
        for folder in self.labels(stage).get(label, ()):
            with suppress(UserError):
                found.append(read_manifest(folder / MANIFEST))
        return sorted(found, key=lambda one: (one.origin.linked if one.origin else one.ended).isoformat(), reverse=True)


_MARKS = ".works"
_ATTEMPTS = 100
Inputs = Mapping[str, InputRecord | tuple[InputRecord, ...]]


_WANTED = digest({KEPT: blake3().hexdigest()})
"""The content of a folder that plays KEPT where the work is wanted."""


def is_no_work(role: str, record: InputRecord | tuple[InputRecord, ...] | None) -> bool:
    """Whether an input, if its record is known, changes nothing about what the work gives."""
    return role == EARLIER or (role == KEPT and isinstance(record, InputRecord) and record.content == _WANTED)


def work_of(identity: Identity, inputs: Inputs) -> str:
    """The hash of the work behind an identity: as its id, with the inputs' contents in place of their names."""
    contents = {
        role: record.content if isinstance(record, InputRecord) else [one.content for one in record]
        for role, record in inputs.items()
        if not is_no_work(role, record)
    }
    return digest(identity.document() | {"inputs": contents})


def mark(store: Store, work: str, manifest: Manifest) -> None:
    """Note which result did this work; before it is in place, so that no result goes unmarked."""
    path = _marks(store, manifest.stage, work) / f"{manifest.label}-{manifest.id}"
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        with suppress(FileExistsError):
            path.parent.mkdir()
        try:
            write_manifest(path, manifest)
            return
        except FileNotFoundError:  # `lntune gc` has just deleted the empty folder
            if attempt == _ATTEMPTS:
                raise


def find(store: Store, stage: str, work: str) -> Path | None:
    """The folder of a finished result that did this work, its files all there; None if there is none."""
    if not (store.root / _MARKS).is_dir():
        if not store.root.is_dir():
            return None
        for path in sorted(store.root.glob(f"[!.]*/[!.]*/{MANIFEST}")):
            with suppress(UserError):
                manifest = read_manifest(path)
                mark(store, work_of(manifest.identity(), manifest.inputs), manifest)
        (store.root / _MARKS).mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(_marks(store, stage, work))):
            folder = store.root / stage / name
            if _did(folder, work):
                return folder
    return None


def check_whole(given: Path) -> None:
    """UserError, with the remedy, if a finished result, or a folder in one, lacks the bytes that its manifest says.

    Whatever is about to be read is read twice: a disk or memory that flips a bit does not say so.
    """
    folder = given if (given / MANIFEST).is_file() else given.parent
    start = "" if folder == given else f"{given.name}/"
    for name, file in read_manifest(folder / MANIFEST).outputs.items():
        if name.startswith(start):
            try:
                if hash_file(folder / name) == file.blake3:
                    continue
                what = "does not hold the bytes that its manifest says"
            except OSError as error:
                what = f"cannot be read ({error.strerror})"
            raise UserError(f"{folder / name}: {what}; {remedy(folder)}")


def linked(found: Path, out: Path, identity: Identity, label: str, inputs: Inputs) -> Manifest | None:
    """Link a found result's files into the empty ``out``; their manifest there, or None, and nothing, if it is off."""
    try:
        manifest = read_manifest(found / MANIFEST)
        for name in manifest.outputs:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(found / name, out / name)
        check_whole(found)
    except (UserError, OSError):
        shutil.rmtree(out)
        out.mkdir()
        return None
    before = manifest.origin or manifest
    origin = Origin(label=before.label, id=before.id, linked=datetime.now(UTC))
    return manifest.model_copy(update={"label": label, "id": identity.id, "inputs": dict(inputs), "origin": origin})


def _marks(store: Store, stage: str, work: str) -> Path:
    return store.root / _MARKS / stage / work[:24]


def _did(folder: Path, work: str) -> bool:
    try:
        manifest = read_manifest(folder / MANIFEST)
        whole = all(os.stat(folder / name).st_size == file.bytes for name, file in manifest.outputs.items())
    except (UserError, OSError):
        return False
    return whole and work_of(manifest.identity(), manifest.inputs) == work
