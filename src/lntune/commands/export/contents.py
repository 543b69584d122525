"""What goes into a crate: every result behind a table or figure, which of their files are copied, and the licences.

Texts are copied: manifests, answers, scores, selections, questions, records of training; and a figure as it is drawn.
Weights, images and raw data are not; the crate names them by their hashes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lntune.config.catalog import ORIGINS
from lntune.errors import UserError
from lntune.plan.fetched import FetchedFile, fetched_files
from lntune.plan.node import is_done, manifest_path
from lntune.plan.plan import SUMMARIES, Plan
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.plan.targets import FIGURES, asked_files, files_of, is_right, report_item_name
from lntune.store.identity import FileRecord
from lntune.store.manifest import MANIFEST, Manifest, Store, read_manifest

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
    if stage in _RAW or (stage, name) in (("prepare", "samples.jsonl"), ("encode", "set.json")):
        return False
    if stage.startswith("questions-") and size > _LARGEST_QUESTIONS:
        return False
    path = PurePosixPath(name)
    return path.suffix in _TEXTS and not (path.name == "metrics.jsonl" and size > _LARGEST_LOG)


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

    Of what is ``published``, the file for other programs comes first. ``results`` are by name, inputs before what needs
    them. ``definition`` are the paths of the workflow's files; ``files``, by path in the crate, where bytes come from.
    """

    report_item: str
    published: Sequence[str]
    results: Mapping[str, Result]
    definition: Sequence[str]
    files: Mapping[str, Source]

    @property
    def kind(self) -> str:
        """What it is of: ``a table`` or ``a figure``."""
        return "a figure" if self.published[0].startswith(f"{FIGURES}/") else "a table"

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


def contents_of(plan: Plan, report_item: str) -> Contents:
    """All that is behind a table or figure, which is given by its name or one of its published files.

    UserError if it is not made or not published, a published file differs from its result, or a result behind it is
    gone, damaged or another than that which was used.
    """
    name, asked = report_item_name(report_item), asked_files(plan.study, report_item)[0]
    if name in SUMMARIES:
        raise UserError(f"{report_item}: crates are of tables and figures of workflow/report_items; name one of those")
    node = plan.report_item(name)
    if not is_done(plan.store, node):
        raise UserError(f"{asked}: not made yet under this config; run `snakemake {asked}`")
    published = files_of(plan.study, name)
    for file in published:
        if file == asked and not file.exists():
            raise UserError(f"{file}: is not there; run `snakemake {file}` first")
        if file.exists() and not is_right(plan, file):
            raise UserError(f"{file}: differs from the result that it should show; run `snakemake {file}` first")
    last = read_manifest(manifest_path(plan.store, node))
    results, root = _results_behind(plan.store, last), plan.study.root
    found = {path for pattern in _DEFINITION for path in root.glob(pattern) if path.is_file()}
    definition = {path.relative_to(root).as_posix(): Source(path) for path in sorted(found)}
    files = dict(definition)
    for key, result in results.items():
        files[f"{result.path}/{MANIFEST}"] = Source(result.folder / MANIFEST)
        for copied, known in result.copied().items():
            files[f"{result.path}/{copied}"] = Source(result.folder / copied, key, known.blake3)
    for file in published:
        made = results[last.name].folder / file.name
        files[file.as_posix()] = Source(made, last.name, last.outputs[file.name].blake3)
    return Contents(name, [file.as_posix() for file in published], results, tuple(definition), files)


def _results_behind(store: Store, last: Manifest) -> dict[str, Result]:
    """A result and all that it was made from, by name, inputs before what needs them."""
    found: dict[str, Result] = {}

    def visit(manifest: Manifest) -> None:
        for _, record in manifest.parents():
            if record.name not in found:
                path = store.manifest(record.stage, record.label, record.id)
                if not path.is_file():
                    raise UserError(
                        f"{path}: is gone, and {manifest.name} was made from it; make it again: `snakemake -c2 {path}`"
                    )
                visit(read_manifest(path))
            if found[record.name].manifest.part_content(record.part) != record.content:
                raise UserError(
                    f"{store.root / record.name}: holds other files than those that {manifest.name} was made from; "
                    f"delete the folder of {manifest.name} and run snakemake"
                )
        found[manifest.name] = Result(manifest, store.folder(manifest.stage, manifest.label, manifest.id))

    visit(last)
    return found


@dataclass(frozen=True)
class Licence:
    """A licence as an entity of the crate."""

    id: str
    name: str
    description: str


PROJECT = Licence("https://spdx.org/licenses/Apache-2.0", "Apache-2.0", "The Apache License, version 2.0")


def licences_of(contents: Contents) -> dict[str, list[Licence]]:
    """By result, those of data and of what was taken from it; none of what the crate's own licence covers."""
    found: dict[str, list[Licence]] = {}
    for name, result in contents.results.items():  # inputs come first
        inherited = (licence for _, record in result.manifest.parents() for licence in found[record.name])
        if result.manifest.stage == "fetch":
            found[name] = [_licence(fetched(result).licence)]
        else:
            found[name] = list(dict.fromkeys(inherited)) if result.manifest.stage.startswith(_TAKEN_FROM_DATA) else []
    return found


def _licence(name: str) -> Licence:
    if name == PROJECT.name:
        return PROJECT
    description = f'What workflow/catalog.yaml says of the licence: "{name}"'
    return Licence("#licence/" + (re.sub(r"[^A-Za-z0-9.-]+", "-", name) or "unknown"), name, description)


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


def fetched(result: Result) -> Fetched:
    """What the manifest of a fetch says of its files."""
    execution = result.manifest.execution
    files = {file.name: file for file in fetched_files(result.manifest, result.folder)}
    return Fetched(str(execution["about"]), str(execution["licence"]), files)
