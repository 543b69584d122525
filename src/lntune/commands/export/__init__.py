"""``lntune export``: a table or figure with everything that it rests on, as a crate to be read without lntune.

The same store and checkout give the same bytes, whenever and wherever they are exported.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from lntune.commands.export.contents import RESULTS, Contents, Result, Source, contents_of
from lntune.commands.export.metadata import METADATA, README, Stated, describe
from lntune.errors import UserError
from lntune.plan.plan import Plan, shown_settings
from lntune.plan.study import Study
from lntune.plan.targets import report_item_name
from lntune.progress import track
from lntune.report.published import table_lines as table_lines
from lntune.report.rows import CELLS, ShownItemSettings
from lntune.stages.select import CHOSEN
from lntune.stages.table import Settings as TableSettings
from lntune.store.manifest import MANIFEST
from lntune.units import bytes_text

_TIME, _MODE, _UNIX = (1980, 1, 1, 0, 0, 0), 0o100644 << 16, 3  # the earliest time that a zip can hold


def export(root: Path, report_item: str, out: Path, overrides: Mapping[str, Any] | None = None) -> str:
    """Write the crate of a table or figure to ``out``, whole or not at all; return what was written, in a line.

    ``overrides`` are values over config.yaml's, as the run had them. UserError as :func:`contents_of`, or if a file is
    damaged or ``out`` cannot be written.
    """
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or name another file")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file in it, such as {out / report_item_name(report_item)}.zip")
    plan = Plan(Study.read(root, overrides))
    contents = contents_of(plan, report_item)
    part = out.with_name(f"{out.name}.part")
    try:
        number = _write(part, contents, plan.study)
        os.replace(part, out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; {out} was not written") from error
    finally:
        with suppress(OSError):  # it is gone if all went well
            part.unlink()
    left_out = [file for result in contents.results.values() for file in result.left_out().values()]
    return (
        f"{out}: {len(contents.results):,} results, {number:,} files ({bytes_text(out.stat().st_size)}); "
        f"{len(left_out):,} more ({bytes_text(sum(file.bytes for file in left_out))}) are named by their hashes"
    )


def _write(path: Path, contents: Contents, study: Study) -> int:
    """Write the zip: the files in the order of their names, then the metadata that states their hashes; their number.

    Times, modes and order are fixed, so its bytes depend on what is put into it (and on the build of zlib) alone.
    """
    sources: dict[str, Source | bytes] = {**contents.files, README: _readme(contents, study.root)}
    written: dict[str, Stated] = {}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        track(len(sources), f"export {contents.report_item}", "files") as progress,
    ):
        for name, source in sorted(sources.items()):
            written[name] = _add(archive, name, source if isinstance(source, bytes) else _read(source))
            progress.advance()
        _add(archive, METADATA, describe(contents, study, written))
    return len(written) + 1


def _read(source: Source) -> bytes:
    """A file's bytes, if they are what its manifest says."""
    again = f"delete the folder of {source.result} and run snakemake" if source.result else "try again"
    try:
        content = source.path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{source.path}: is gone; {again}") from None
    if source.blake3 not in (None, blake3(content).hexdigest()):
        raise UserError(f"{source.path}: is not what its manifest says (BLAKE3 {source.blake3}); {again}")
    return content


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> Stated:
    """Add one file, and return what is to be stated of it."""
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, _MODE, _UNIX
    archive.writestr(info, content)
    sha256, mine = hashlib.sha256(content).hexdigest(), blake3(content).hexdigest()
    return {"contentSize": str(len(content)), "sha256": sha256, "blake3": mine}


_TEMPLATE = "workflow/report/crate.md"
"""The crate's README: how to follow a number with nothing but a text editor."""

_LITERATURE = """\
Rows whose `source` is `literature` are no work of this workflow: the paper prints them, from the literature, and their
values are in `{file}`.

"""

_ROLES = ("answers", "tuned", "candidates", "connector", "samples", "raw", "llm")


def _readme(contents: Contents, root: Path) -> bytes:
    """The text of README.md."""
    settings = shown_settings(contents.last.manifest, str(contents.published[0]))
    has_literature = isinstance(settings, TableSettings) and settings.literature
    literature = _LITERATURE.format(file=f"workflow/paper/{contents.report_item}.csv")
    return (
        (root / _TEMPLATE)
        .read_text(encoding="utf-8")
        .format(
            title=f"{contents.report_item}: {settings.title}",
            files=", ".join(f"`{path}`" for path in contents.published),
            kind=contents.kind,
            results=RESULTS,
            manifest=MANIFEST,
            cells=CELLS,
            last=contents.last.path,
            scale=settings.scale,
            scale_note=settings.scale_note,
            protocol=settings.protocol,
            example=_example(contents, settings),
            literature=literature if has_literature else "",
        )
        .encode()
    )


def _example(contents: Contents, settings: ShownItemSettings) -> str:
    """The way of the first cell, folder by folder; where there are no cells, of the first learning rate."""
    row, role = settings.rows[0], "scores" if settings.columns else "selections"
    inputs = [record for one, record in contents.last.manifest.parents() if one == role]
    if not inputs:
        return ""
    shown, read_from = "the first learning rate", row.chosen(inputs)
    if settings.columns:
        value = json.loads((contents.last.folder / CELLS).read_bytes())[0]["value"]
        column, read_from = next(iter(settings.sources(row, inputs).items()))
        shown = f"{row.name!r}, {column}, {value}"
    result = contents.results[read_from[0].name]
    lines = [f"For example {shown}:", "", f"    {role:<12}{result.path}"]
    while step := _next(contents, result):
        role, result = step
        lines.append(f"    {role:<12}{result.path}")
    return "\n".join([*lines, ""])


def _next(contents: Contents, result: Result) -> tuple[str, Result] | None:
    """The input that leads on to the raw files, and its role."""
    parents = list(result.manifest.parents())
    for role in _ROLES:
        if playing := [record for one, record in parents if one == role]:
            chosen = result.manifest.part_content(CHOSEN)  # of the candidates, the one that was chosen
            best = next((record for record in playing if record.content == chosen), playing[0])
            return role, contents.results[best.name]
    return None
