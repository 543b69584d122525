"""Under which licence each file behind a table is: the project's own, or that of the data that it was taken from."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lntune.commands.export.contents import Contents, Result
from lntune.config.catalog import ORIGINS, Catalog, Entry
from lntune.plan.fetched import fetched_files
from lntune.store.layout import slug
from lntune.store.manifest import Manifest

_TAKEN_FROM_DATA = ("draw", "prepare", "questions-", "tokenize-references")


@dataclass(frozen=True)
class Licence:
    """A licence as an entity of the crate."""

    id: str
    name: str
    description: str


_PROJECT = Licence("https://spdx.org/licenses/Apache-2.0", "Apache-2.0", "The Apache License, version 2.0")


@dataclass(frozen=True)
class Fetched:
    """What is known of fetched files: sha256, download address and path in the checkout by name.

    ``recorded`` are the names of those whose sha256 is what the first download found.
    """

    about: str
    licence: str
    sha256: Mapping[str, str]
    urls: Mapping[str, str]
    paths: Mapping[str, str]
    recorded: Collection[str]

    def description(self, name: str) -> str:
        """What a file is, where it lies in the checkout if it does, and who says that its sha256 is the right one."""
        if name == ORIGINS:
            return "Where each of the files beside it came from, with bytes and sha256"
        place = self.paths.get(name, "/")  # a path of the machine is told to nobody
        checkout = "" if place.startswith("/") else f"; in the checkout at {place}"
        return self.about + checkout + ("; sha256 recorded at the first download" if name in self.recorded else "")


class Licences:
    """The licences in one crate."""

    project = _PROJECT

    def __init__(self, contents: Contents, catalog: Catalog) -> None:
        self._contents, self._catalog = contents, catalog
        self._found: dict[str, dict[str, Licence]] = {}
        for result in contents.results.values():  # inputs come first
            self._found[result.manifest.name] = self._find(result.manifest)

    def _find(self, manifest: Manifest) -> dict[str, Licence]:
        if manifest.stage == "fetch":
            name = self.fetched(manifest).licence
            return {name: _licence(name)}
        if not manifest.stage.startswith(_TAKEN_FROM_DATA):
            return {}
        found: dict[str, Licence] = {}
        for _, record in manifest.parents():
            found |= self._found[record.name]
        return found

    def of(self, result: Result) -> Sequence[Licence]:
        """Those of a result that is data, or was taken from data; none for what the crate's own licence covers."""
        return list(self._found[result.manifest.name].values())

    def all(self) -> Sequence[Licence]:
        """Every licence once, the project's first."""
        found = {_PROJECT.id: _PROJECT}
        for licences in self._found.values():
            found |= {licence.id: licence for licence in licences.values()}
        return list(found.values())

    def fetched(self, manifest: Manifest) -> Fetched:
        """What the manifest of fetched files says of them, and where it is silent, the catalogue."""
        execution, entry = manifest.execution, self._entry(manifest.label)
        files = fetched_files(manifest, self._contents.results[manifest.name].folder, entry)
        return Fetched(
            about=str(execution.get("about") or (entry.about if entry else "")),
            licence=str(execution.get("licence") or (entry.licence if entry else "unknown")),
            sha256={file.name: file.sha256 for file in files if file.sha256},
            urls={file.name: file.url for file in files if file.url},
            paths={file.name: file.path for file in files if file.path},
            recorded={file.name for file in files if file.recorded},
        )

    def _entry(self, label: str) -> Entry | None:
        return next((entry for name, entry in self._catalog.entries.items() if slug([name]) == label), None)


def _licence(name: str) -> Licence:
    if name == _PROJECT.name:
        return _PROJECT
    description = f'What workflow/catalog.yaml says of the licence: "{name}"'
    return Licence("#licence/" + (re.sub(r"[^A-Za-z0-9.-]+", "-", name) or "unknown"), name, description)
