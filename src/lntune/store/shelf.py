"""What lies in a store: the finished results by stage and label, the newest first."""

import os
from collections import defaultdict
from contextlib import suppress
from functools import cache
from pathlib import Path

from lntune.errors import UserError
from lntune.store.layout import MANIFEST, Store
from lntune.store.manifest import Manifest, read_manifest


class Shelf:
    """A store's folders as they are when first looked at; manifests are read when they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @cache  # noqa: B019 - a shelf lives as long as its process
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
        return sorted(found, key=_made, reverse=True)

    @cache  # noqa: B019
    def some(self, stage: str, number: int = 20) -> list[Manifest]:
        """Up to ``number`` manifests of a stage, of labels spread evenly over all that there are."""
        labels = sorted(self.labels(stage))
        step = max(1, len(labels) // number)
        return [one for label in labels[::step][:number] for one in self.named(stage, label)[:1]]


def _made(manifest: Manifest) -> str:
    moment = manifest.origin.linked if manifest.origin else manifest.ended
    return moment.isoformat()
