"""What goes into a crate: every result behind a table or figure, which of their files are copied, and the licences.

Texts are copied: manifests, answers, scores, selections, questions, records of training; and a figure as it is drawn.
Weights, images and raw data are not; the crate names them by their hashes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lntune.config.catalog import ORIGINS, Catalog, Entry
from lntune.errors import UserError
from lntune.plan.fetched import FetchedFile, fetched_files
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.plan.targets import FIGURES
from lntune.store.identity import FileRecord
from lntune.store.manifest import MANIFEST, InputRecord, Manifest, Store, read_manifest, slug

RESULTS = "results"
"""The folder of all results in a crate, whatever the store is called."""

_TEXTS = frozenset({".csv", ".json", ".jsonl", ".md", ".tex", ".txt"})
_RAW = ("draw", "fetch")
_TAKEN_FROM_DATA = ("draw", "prepare", "questions-", "tokenize-references")
_LARGEST_QUESTIONS = 16 << 20
_LARGEST_LOG = 1 << 20  # at 7B a finetune's is ten times that, with the norms' gradients, and there are hundreds
_DEFINITION = ("Snakefile", "config.yaml", "envs/requirements.lock", "workflow/**/*.yaml", "workflow/**/*.smk",
               "workflow/paper/*.csv")  # fmt: skip


def is_copied(stage: str, name: str, size: int) -> bool:
    """Whether a file of a result is copied into a crate, or named by its hash alone."""
    if stage in STAGES_OF_REPORT_ITEMS:
        return True
    if stage in _RAW or (stage == "prepare" and name == "samples.jsonl"):
        return False
    if stage.startswith("questions-") and size > _LARGEST_QUESTIONS:
        return False
    if PurePosixPath(name).name == "metrics.jsonl" and size > _LARGEST_LOG:
        return False
    return PurePosixPath(name).suffix in _TEXTS


@dataclass(frozen=True)
class Result:
    """One result behind the table or figure, and its folder in the store."""

    manifest: Manifest
    folder: Path

    @property
    def path(self) -> str:
        """Its folder in the crate."""
        return f"{RESULTS}/{self.manifest.name}"

    def copied(self) -> dict[str, FileRecord]:
        """Those of its files that the crate holds."""
        stage, files = self.manifest.stage, self.manifest.outputs
        return {name: file for name, file in files.items() if is_copied(stage, name, file.bytes)}

    def left_out(self) -> dict[str, FileRecord]:
        """Those of its files that the crate names by their hashes."""
        copied = self.copied()
        return {name: file for name, file in self.manifest.outputs.items() if name not in copied}


@dataclass(frozen=True)
class Source:
    """Where the bytes of a file in the crate come from; of a result's file, whose it is and the BLAKE3 it must have."""

    path: Path
    result: str | None = None
    blake3: str | None = None


@dataclass(frozen=True)
class Contents:
    """Everything that a crate is made of, but for the texts that are written for it.

    Attributes:
        report_item: the name of the table or figure.
        published: its published files, the one for other programs first.
        results: by name, every result comes after those that it was made from; the one that is published is the last.
        definition: the paths of the files that define the workflow.
        files: path in the crate to where its bytes come from.
    """

    report_item: str
    published: Sequence[str]
    results: Mapping[str, Result]
    definition: Sequence[str]
    files: Mapping[str, Source]

    @property
    def last(self) -> Result:
        """The table's or figure's own result."""
        return list(self.results.values())[-1]

    def inputs(self, result: Result) -> Iterator[tuple[Result, str]]:
        """Each file that a result was made from: the result that it belongs to and its name there; none twice."""
        seen = set()
        for _, record in result.manifest.parents():
            parent = self.results[record.name]
            for name in parent.manifest.outputs:
                inside = record.part is None or name.startswith(f"{record.part}/")
                if inside and (record.name, name) not in seen:
                    seen.add((record.name, name))
                    yield parent, name


def contents_of(root: Path, store: Store, published: Sequence[Path], made: Manifest) -> Contents:
    """All that is behind a table or figure that has been made.

    Args:
        root: the checkout.
        store: where the results lie.
        published: the published files.
        made: the manifest of the result that they show.

    Raises:
        UserError: as :func:`results_behind`.
    """
    results = results_behind(store, made)
    definition = {path.relative_to(root).as_posix(): Source(path) for path in _definition(root)}
    files = dict(definition)
    for name, result in results.items():
        files[f"{result.path}/{MANIFEST}"] = Source(result.folder / MANIFEST)
        for file, known in result.copied().items():
            files[f"{result.path}/{file}"] = Source(result.folder / file, name, known.blake3)
    for path in published:
        source = Source(results[made.name].folder / path.name, made.name, made.outputs[path.name].blake3)
        files[path.as_posix()] = source
    return Contents(published[0].stem, [path.as_posix() for path in published], results, tuple(definition), files)


def kind_of(contents: Contents) -> str:
    """``a table`` or ``a figure``."""
    return "a figure" if contents.published[0].startswith(f"{FIGURES}/") else "a table"


def results_behind(store: Store, last: Manifest) -> dict[str, Result]:
    """A result and all that it was made from, by name, inputs before what needs them.

    Raises:
        UserError: a manifest is missing or damaged, or its files are not those that were used; the text names it.
    """
    found: dict[str, Result] = {}

    def visit(manifest: Manifest) -> None:
        for _, record in manifest.parents():
            if record.name not in found:
                visit(_manifest_of(store, record, manifest))
            if found[record.name].manifest.part_content(record.part) != record.content:
                raise UserError(
                    f"{store.root / record.name}: holds other files than those that {manifest.name} was made from; "
                    f"delete the folder of {manifest.name} and run snakemake"
                )
        found[manifest.name] = Result(manifest, store.folder(manifest.stage, manifest.label, manifest.id))

    visit(last)
    return found


def _manifest_of(store: Store, record: InputRecord, needed_by: Manifest) -> Manifest:
    path = store.manifest(record.stage, record.label, record.id)
    if not path.is_file():
        raise UserError(
            f"{path}: is gone, and {needed_by.name} was made from it; make it again: `snakemake -c2 {path}`"
        )
    return read_manifest(path)


def _definition(root: Path) -> list[Path]:
    """The files that define the workflow: what Snakemake runs, and in which environment."""
    return sorted({path for pattern in _DEFINITION for path in root.glob(pattern) if path.is_file()})


# --- licences ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Licence:
    """A licence as an entity of the crate."""

    id: str
    name: str
    description: str


_PROJECT = Licence("https://spdx.org/licenses/Apache-2.0", "Apache-2.0", "The Apache License, version 2.0")


@dataclass(frozen=True)
class Fetched:
    """What is known of the files of one fetch, by name."""

    about: str
    licence: str
    files: Mapping[str, FetchedFile]

    def properties(self, name: str) -> dict[str, str | None]:
        """Of a file that is named by its hash: what it is, where it came from, and its sha256."""
        if name == ORIGINS:
            return {"description": "Where each of the files next to it came from, with bytes and sha256"}
        file = self.files.get(name)
        if file is None:
            return {"description": self.about}
        checkout = file.path if file.path and not file.path.startswith("/") else ""  # no path of the machine
        description = self.about + (f"; in the checkout at {checkout}" if checkout else "")
        description += "; sha256 recorded at the first download" if file.recorded else ""
        return {"sha256": file.sha256, "description": description, "contentUrl": file.url}


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
            files={file.name: file for file in files},
        )

    def _entry(self, label: str) -> Entry | None:
        return next((entry for name, entry in self._catalog.entries.items() if slug([name]) == label), None)


def _licence(name: str) -> Licence:
    if name == _PROJECT.name:
        return _PROJECT
    description = f'What workflow/catalog.yaml says of the licence: "{name}"'
    return Licence("#licence/" + (re.sub(r"[^A-Za-z0-9.-]+", "-", name) or "unknown"), name, description)
