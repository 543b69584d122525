"""The result that shows a table or figure, what it shows, and whether the published files show the same."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lntune.commands.trace.derivation import several
from lntune.errors import UserError
from lntune.plan.node import manifest_path
from lntune.plan.plan import Plan, shown_settings
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.report.published import Shown, difference, shown_in
from lntune.report.rows import CELLS, ShownItemSettings
from lntune.stages.table import Printed
from lntune.stages.table import Settings as TableSettings
from lntune.store.manifest import MANIFEST, InputRecord, Manifest, Store, read_manifest

_MARKS = r"\*|</?u>"
"""How Markdown sets the best and the second best."""


@dataclass(frozen=True)
class ReportItem:
    """A table's or figure's result.

    Attributes:
        plan: that of today's config.
        root: the checkout.
        files: the published files that were asked for.
        manifest: of the result: this config's, or if that is not made yet, the one that a published file shows.
    """

    plan: Plan
    root: Path
    files: Sequence[Path]
    manifest: Manifest

    @property
    def name(self) -> str:
        """The table's or figure's name."""
        return self.files[0].stem

    @property
    def path(self) -> str:
        """As it is called in messages: ``tables/table3``."""
        return str(self.files[0].with_suffix(""))

    @cached_property
    def settings(self) -> ShownItemSettings:
        """The settings of its stage; UserError if it was made by an earlier version, whose settings were others."""
        return shown_settings(self.manifest, str(self.files[0]))

    @property
    def literature(self) -> tuple[Printed, ...]:
        """The rows that the paper took from the literature."""
        return self.settings.literature if isinstance(self.settings, TableSettings) else ()

    @property
    def folder(self) -> Path:
        """Where the result lies."""
        return self.plan.store.folder(self.manifest.stage, self.manifest.label, self.manifest.id)

    @cached_property
    def shown(self) -> Shown:
        """What is shown in each cell, and what the CSV says besides."""
        cells = json.loads((self.folder / CELLS).read_text())
        return self._in_csv | {(one["row"], one["column"]): str(one["value"]) for one in cells}

    @cached_property
    def _in_csv(self) -> Shown:
        """What the CSV shows in each cell, of a figure what is drawn; nothing if it is a list of points."""
        try:
            return shown_in(self.folder / f"{self.name}.csv")
        except ValueError:
            return {}

    def inputs(self, role: str) -> tuple[InputRecord, ...]:
        """The results that play a role."""
        return several(self.manifest, role)

    def input_folder(self, record: InputRecord) -> Path:
        """Where a result lies that this one was made from, if it is there still."""
        return self.plan.store.folder(record.stage, record.label, record.id)

    def notes(self, row: str, column: str) -> list[str]:
        """What is to be known before a cell's value: which published files do not show the result that is traced."""
        notes = []
        if self.manifest.id != self.plan.report_item(self.name).id:
            other = f"traced is {self.manifest.name}, of another config or code"
            notes.append(f"{other}; `snakemake {self.files[0]}` makes this one's")
        drawn = self._in_csv.get((row, column), self.shown.get((row, column)))
        if drawn != self.shown.get((row, column)):
            notes.append(f"drawn is {drawn}")
        for file in self.files:
            published = self.root / file
            if not published.is_file():
                notes.append(f"{file} is not published; `snakemake {file}` does it")
            elif published.read_bytes() != (self.folder / file.name).read_bytes():
                edited = shown_result(self.plan.store, published) is None
                why = "was edited by hand" if edited else "is of another config or code"
                has = self._published(published, row, column)
                notes.append(f"{file} {why} and has {has}; `snakemake {file}` mends it")
        return notes

    def _published(self, file: Path, row: str, column: str) -> str:
        """What a published file that differs has in a cell, or where it begins to differ if it has no such cells."""
        right = self.folder / file.name
        try:
            known, found = shown_in(right), shown_in(file).get((row, column))
        except ValueError:
            known = {}
        if (row, column) not in known:
            return difference(right, file)
        if found is None:
            return "no such cell"
        return "the same here" if found == known[row, column] else f"{re.sub(_MARKS, '', found)} here"


def find_report_item(plan: Plan, root: Path, files: Sequence[Path]) -> ReportItem:
    """The result of the published files that are asked for; UserError if there is none."""
    manifest = manifest_path(plan.store, plan.report_item(files[0].stem))
    if manifest.is_file():
        return ReportItem(plan, root, files, read_manifest(manifest))
    for file in files:
        shown = shown_result(plan.store, root / file)
        if shown is not None:
            return ReportItem(plan, root, files, shown)
    raise UserError(f"{files[0]}: not made yet under this config; run `snakemake {files[0]}`")


def shown_result(store: Store, file: Path) -> Manifest | None:
    """The result whose bytes a published file holds; None without such a result or such a file."""
    if not file.is_file():
        return None
    published = file.read_bytes()
    for stage in STAGES_OF_REPORT_ITEMS:
        for folder in sorted(store.root.glob(f"{stage}/{file.stem}-*")):
            made = folder / file.name
            if made.is_file() and made.read_bytes() == published and (folder / MANIFEST).is_file():
                return read_manifest(folder / MANIFEST)
    return None
