"""Where one number of a table comes from: its cell, and every result behind it, from the manifests alone.

    found = trace_cell(Path("."), "table3", "MM-VICUNA-7B: LayerNorm-80K", "POPE", show=5)
    print(trace_text(found))                # lntune.trace.text

    found["value"]                          # as the table has it
    found["from"]                           # the result that holds it, such as "score-pope/NAME-ID"
    found["content"]                        # the hash of its files when the table was made
    found["results"][found["from"]]         # its facts (lntune.trace.derivation)
    found["examples"]                       # questions, answers and marks (lntune.trace.examples)

The way leads from the score over answers, selection, checkpoint, connector and samples to the raw files.
"""

import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.errors import UserError
from lntune.nodes import manifest_path
from lntune.plan import Plan
from lntune.store.layout import MANIFEST, Store
from lntune.store.manifest import InputRecord, Manifest, read_manifest
from lntune.study import Study
from lntune.summaries import SUMMARIES
from lntune.targets import FORMATS, TABLES, table_name
from lntune.trace.derivation import Derivation, several
from lntune.trace.examples import examples

_INTERVAL = " 95% interval"
_LEARNING_RATE = "learning_rate"


def trace_cell(
    root: Path,
    table: str,
    row: str,
    column: str,
    show: int = 0,
    wrong: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The derivation of a cell, all of it fit for JSON.

    Args:
        root: the checkout.
        table: the table's name or its published file.
        row: a row's title; as "GROUP: TITLE" or "GROUP/TITLE" where several groups have one of that title.
        column: a column of the table: a benchmark, its "95% interval" where there is one, or learning_rate.
        show: how many questions, with the model's answers and their marks, are found as well.
        wrong: of these, only questions that were answered wrongly.
        overrides: values over config.yaml's, as the run had them.

    Raises:
        UserError: the table is not made yet, or there is no such row or column (the near ones are given), or several
            rows are meant, or questions are asked for where a column has none.
    """
    plan = Plan(Study.read(root, overrides))
    files = _files(table)
    if files[0].stem in SUMMARIES:
        raise _of_summary(plan, files[0].stem, row)
    made = _made(plan, root, files)
    cell = _cell(made, plan.store, row, column)
    found = {
        "table": files[0].stem,
        "row": f"{cell.group}: {cell.title}",
        "column": cell.column,
        "value": cell.value,
        "scale": made.settings["scale"],
        "protocol": made.settings["protocol"],
        "notes": _notes(plan, root, made, files, cell),
        "result": made.name,
        "from": cell.behind.name,
        "content": cell.behind.content,
        "results": Derivation(plan, root).behind(cell.behind),
    }
    if show:
        if cell.column == _LEARNING_RATE:
            raise UserError(f"{files[0]}: learning_rate has no questions to show; ask for a benchmark's column")
        found["examples"] = examples(plan.store, cell.behind, show, wrong)
    return found


def _of_summary(plan: Plan, table: str, row: str) -> UserError:
    """Where the numbers of a table come from that is no experiment's: from no model, and by no longer way."""
    node = plan.exhibit(table)
    if table != "data":
        return UserError(
            f"tables/{table}: its numbers follow from the tables of config.yaml by what each of its lines says; trace "
            f"a cell of one of those"
        )
    sets = node.inputs["sets"]
    assert isinstance(sets, tuple)
    settings: Any = node.settings
    counted = {one.name: made for one, made in zip(settings.rows, sets, strict=True)}
    if row not in counted:
        return _no_such(table, "row", row, list(counted))
    return UserError(
        f"tables/{table}: the numbers of {row} are counts, made where the set is: "
        f"see dropped.json and manifest.json in {manifest_path(plan.store, counted[row]).parent}"
    )


# --- the table's result and its published files --------------------------------------------------------------------


def _files(table: str) -> list[Path]:
    """The published files that are meant by a table's name, or by that of one of them."""
    suffix = Path(table).suffix[1:]
    if suffix and suffix not in FORMATS:
        raise UserError(f"{table}: tables are made as {' and '.join(FORMATS)}")
    return [Path(TABLES) / f"{table_name(table)}.{one}" for one in ([suffix] if suffix else FORMATS)]


def _made(plan: Plan, root: Path, files: list[Path]) -> Manifest:
    """The manifest of this config's table; if that is not made yet, of the result that a published file shows."""
    manifest = manifest_path(plan.store, plan.exhibit(files[0].stem))
    if manifest.is_file():
        return read_manifest(manifest)
    for file in files:
        shown = _shown(plan.store, root / file)
        if shown is not None:
            return shown
    raise UserError(f"{files[0]}: not made yet under this config; run `snakemake {files[0]}`")


def _shown(store: Store, file: Path) -> Manifest | None:
    """The result whose bytes a published file holds; None without such a result or such a file."""
    if not file.is_file():
        return None
    published = file.read_bytes()
    for folder in sorted(store.root.glob(f"table/{file.stem}-*")):
        made = folder / file.name
        if made.is_file() and made.read_bytes() == published and (folder / MANIFEST).is_file():
            return read_manifest(folder / MANIFEST)
    return None


def _notes(plan: Plan, root: Path, made: Manifest, files: list[Path], cell: "_Cell") -> list[str]:
    """What is to be known before the value: which published files do not show the result that is traced."""
    notes = []
    if made.id != plan.exhibit(files[0].stem).id:
        notes.append(f"traced is {made.name}, of another config or code; `snakemake {files[0]}` makes this one's")
    for file in files:
        published = root / file
        if not published.is_file():
            notes.append(f"{file} is not published; `snakemake {file}` does it")
        elif published.read_bytes() != (_folder(plan.store, made) / file.name).read_bytes():
            value = _published_value(published, cell)
            has = "no such cell" if value is None else "the same here" if value == cell.value else f"{value} here"
            why = "was edited by hand" if _shown(plan.store, published) is None else "is of another config or code"
            notes.append(f"{file} {why} and has {has}; `snakemake {file}` mends it")
    return notes


def _folder(store: Store, made: Manifest) -> Path:
    return store.folder(made.stage, made.label, made.id)


def _published_value(file: Path, cell: "_Cell") -> str | None:
    """What a published file has in a cell; None if it has no such cell."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix == ".csv":
        of_row = (one for one in csv.DictReader(text.splitlines()) if one.get("model") == cell.group)
        return next((one.get(cell.column) for one in of_row if one.get("method") == cell.title), None)
    group, columns = "", list[str]()
    for line in text.splitlines():
        parts = [re.sub(r"\*|</?u>", "", part).strip() for part in line.split("|")[1:-1]]
        columns = columns or parts
        group = parts[0] if line.startswith("| *") else group
        if parts and (group, parts[0]) == (cell.group, cell.title):
            return dict(zip(columns, parts, strict=False)).get(cell.column)
    return None


# --- the cell --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """One cell, and the result that its value is taken from."""

    group: str
    title: str
    column: str
    value: str
    behind: InputRecord


def _cell(made: Manifest, store: Store, row: str, column: str) -> _Cell:
    settings: Any = made.settings
    name = settings["name"]
    with (_folder(store, made) / f"{name}.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        records, header = list(reader), list(reader.fieldnames or ())
    place = _row_place(name, [(one["group"], one["title"]) for one in settings["rows"]], row)
    column = _column(name, settings["columns"], header, column)
    its = settings["rows"][place]
    if column == _LEARNING_RATE:
        behind = several(made, "selections")[its["selection"]]
    else:
        number = settings["columns"].index(column.removesuffix(_INTERVAL))
        behind = several(made, "scores")[its["scores"][number]]
    return _Cell(its["group"], its["title"], column, records[place][column], behind)


def _plain(name: str) -> str:
    """A name without what people change or leave out: case and spaces."""
    return "".join(name.split()).casefold()


def _row_place(table: str, rows: list[tuple[str, str]], asked: str) -> int:
    """The place of the row that is meant; UserError gives the near ones if it is none, and all if it is several."""
    full = [f"{group}: {title}" for group, title in rows]
    forms = [(both, f"{group}/{title}", title) for both, (group, title) in zip(full, rows, strict=True)]
    places = [place for place, names in enumerate(forms) if asked in names]
    places = places or [place for place, names in enumerate(forms) if _plain(asked) in map(_plain, names)]
    if not places:
        titles = [title for _, title in rows]
        raise _no_such(table, "row", asked, full, [title for title in titles if titles.count(title) == 1])
    if len(places) > 1:
        meant = "; ".join(full[place] for place in places)
        raise UserError(f"tables/{table}: {len(places)} rows are called {asked!r}; name one of: {meant}")
    return places[0]


def _column(table: str, columns: list[str], header: list[str], asked: str) -> str:
    """The column that is meant, as the header writes it."""
    known = [*columns, *(one + _INTERVAL for one in columns if one + _INTERVAL in header), _LEARNING_RATE]
    for column in known:
        if _plain(column) == _plain(asked):
            return column
    if _plain(asked) in map(_plain, header):
        raise UserError(f"tables/{table}: {asked!r} is no number to be traced; there are {'; '.join(known)}")
    raise _no_such(table, "column", asked, known)


def _no_such(table: str, kind: str, asked: str, known: list[str], short: Sequence[str] = ()) -> UserError:
    """The near ones of the known names and of their short forms, else all that are known."""
    written = {_plain(name): name for name in [*known, *short]}
    near = difflib.get_close_matches(_plain(asked), list(written), 3, 0.5)
    meant = " or ".join(repr(written[one]) for one in near)
    hint = f"did you mean {meant}?" if near else f"there are {'; '.join(known)}"
    return UserError(f"tables/{table}: has no {kind} {asked!r}; {hint}")
