"""Export a table or figure with everything that it rests on, as a crate that can be read without lntune.

    report = export(Path("."), "tables/table3.csv", Path("table3.zip"))

The same store and checkout give the same bytes, whenever and wherever they are exported.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.commands.export.archive import Archive, Written
from lntune.commands.export.contents import Contents, Source, contents_of
from lntune.commands.export.entities import README
from lntune.commands.export.graph import METADATA, describe
from lntune.commands.export.readme import readme
from lntune.errors import UserError
from lntune.plan.node import is_done, manifest_path
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.summary_tables import SUMMARIES
from lntune.plan.targets import asked_files, files_of, is_right, report_item_name
from lntune.progress import track
from lntune.store.manifest import Manifest, read_manifest
from lntune.units import bytes_text


@dataclass(frozen=True)
class CrateReport:
    """What was exported; ``left_out`` and its bytes are of the files that are named by their hashes."""

    path: Path
    bytes: int
    results: int
    files: int
    left_out: int
    left_out_bytes: int

    @property
    def text(self) -> str:
        """The report in a line."""
        return (
            f"{self.path}: {self.results:,} results, {self.files:,} files ({bytes_text(self.bytes)}); "
            f"{self.left_out:,} more ({bytes_text(self.left_out_bytes)}) are named by their hashes"
        )


def export(root: Path, report_item: str, out: Path, overrides: Mapping[str, Any] | None = None) -> CrateReport:
    """Write the crate of a table or figure to ``out``, whole or not at all.

    Args:
        root: the checkout; a store with a relative path and the published files lie in the working directory.
        report_item: the name of the table or figure, or one of its published files.
        out: the zip to write; one that is there is replaced.
        overrides: values over config.yaml's, as the run had them.

    Raises:
        UserError: it is not made or not published, a published file differs from its result, a file behind it
            is missing or damaged, or ``out`` cannot be written.
    """
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or name another file")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file in it, such as {out / report_item_name(report_item)}.zip")
    plan = Plan(Study.read(root, overrides))
    made = _made(plan, report_item)
    contents = contents_of(root, plan.store, files_of(plan.study, report_item_name(report_item)), made)
    part = out.with_name(f"{out.name}.part")
    try:
        written = _write(part, contents, plan.study)
        os.replace(part, out)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise UserError(f"{error.filename or out}: {error.strerror}; {out} was not written") from error
        raise
    return _report(out, contents, written)


def _made(plan: Plan, report_item: str) -> Manifest:
    """The manifest of a table or figure that is made and published as it should be."""
    name, asked = report_item_name(report_item), asked_files(plan.study, report_item)[0]
    if name in SUMMARIES:
        raise UserError(f"{report_item}: crates are of tables and figures of workflow/report_items; name one of those")
    node = plan.report_item(name)
    if not is_done(plan.store, node):
        raise UserError(f"{asked}: not made yet under this config; run `snakemake {asked}`")
    for file in files_of(plan.study, name):
        if file == asked and not file.exists():
            raise UserError(f"{file}: is not there; run `snakemake {file}` first")
        if file.exists() and not is_right(plan, file):
            raise UserError(f"{file}: differs from the result that it should show; run `snakemake {file}` first")
    return read_manifest(manifest_path(plan.store, node))


def _write(path: Path, contents: Contents, study: Study) -> Mapping[str, Written]:
    """Write the zip: the files in the order of their names, then the metadata that states their hashes."""
    sources: dict[str, Source | bytes] = {**contents.files, README: readme(contents)}
    written: dict[str, Written] = {}
    with Archive(path) as archive, track(len(sources), f"export {contents.report_item}", "files") as progress:
        for name, source in sorted(sources.items()):
            if isinstance(source, bytes):
                written[name] = archive.add(name, source)
            else:
                written[name] = _copy(archive, name, source)
            progress.advance()
        archive.add(METADATA, describe(contents, study, written))
    return written


def _copy(archive: Archive, name: str, source: Source) -> Written:
    """Copy a file into the crate, unless it is not what its manifest says."""
    again = f"delete the folder of {source.result} and run snakemake" if source.result else "try again"
    try:
        written = archive.add(name, source.path)
    except FileNotFoundError:
        raise UserError(f"{source.path}: is gone; {again}") from None
    if source.blake3 not in (None, written.blake3):
        raise UserError(f"{source.path}: is not what its manifest says (BLAKE3 {source.blake3}); {again}")
    return written


def _report(out: Path, contents: Contents, written: Mapping[str, Written]) -> CrateReport:
    left_out = [file for result in contents.results.values() for file in result.left_out().values()]
    return CrateReport(
        path=out,
        bytes=out.stat().st_size,
        results=len(contents.results),
        files=len(written) + 1,
        left_out=len(left_out),
        left_out_bytes=sum(file.bytes for file in left_out),
    )
