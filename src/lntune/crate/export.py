"""Export a table with everything that it rests on, as a crate that can be read without lntune.

    report = export(Path("."), "tables/table3.csv", Path("table3.zip"))

The same store and checkout give the same bytes, whenever and wherever they are exported.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.crate.archive import Archive, Written
from lntune.crate.contents import Contents, Source, contents_of
from lntune.crate.entities import README
from lntune.crate.graph import METADATA, describe
from lntune.crate.readme import readme
from lntune.errors import UserError
from lntune.nodes import is_done, manifest_path
from lntune.plan import Plan
from lntune.progress import track
from lntune.store.manifest import Manifest, read_manifest
from lntune.study import Study
from lntune.summaries import SUMMARIES
from lntune.targets import FORMATS, TABLES, is_right, table_name
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


def export(root: Path, table: str, out: Path, overrides: Mapping[str, Any] | None = None) -> CrateReport:
    """Write a table's crate to ``out``, whole or not at all.

    Args:
        root: the checkout; a store with a relative path and the published tables lie in the working directory.
        table: the table's name or its published file.
        out: the zip to write; one that is there is replaced.
        overrides: values over config.yaml's, as the run had them.

    Raises:
        UserError: the table is not made or not published, its published file differs from its result, a file behind it
            is missing or damaged, or ``out`` cannot be written.
    """
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or name another file")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file in it, such as {out / table_name(table)}.zip")
    plan = Plan(Study.read(root, overrides))
    made = _made(plan, table)
    contents = contents_of(root, plan.store, table_name(table), made)
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


def _made(plan: Plan, table: str) -> Manifest:
    """The manifest of a table that is made and published as it should be."""
    name, asked = table_name(table), Path(table).suffix.removeprefix(".") or FORMATS[0]
    if asked not in FORMATS:
        raise UserError(f"{table}: tables are made as {' and '.join(FORMATS)}")
    if name in SUMMARIES:
        raise UserError(f"{table}: crates are of tables of scores; name one of those")
    node = plan.exhibit(name)
    if not is_done(plan.store, node):
        raise UserError(
            f"{TABLES}/{name}.{asked}: not made yet under this config; run `snakemake {TABLES}/{name}.{asked}`"
        )
    for suffix in FORMATS:
        file = Path(TABLES) / f"{name}.{suffix}"
        if suffix == asked and not file.exists():
            raise UserError(f"{file}: is not there; run `snakemake {file}` first")
        if file.exists() and not is_right(plan, file):
            raise UserError(f"{file}: differs from the result that it should show; run `snakemake {file}` first")
    return read_manifest(manifest_path(plan.store, node))


def _write(path: Path, contents: Contents, study: Study) -> Mapping[str, Written]:
    """Write the zip: the files in the order of their names, then the metadata that states their hashes."""
    sources: dict[str, Source | bytes] = {**contents.files, README: readme(contents)}
    written: dict[str, Written] = {}
    with Archive(path) as archive, track(len(sources), f"export {contents.table}", "files") as progress:
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
