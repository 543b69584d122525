"""Where one number of a table or figure comes from: its cell, and every result behind it, from the manifests alone.

    found = trace_cell(Path("."), "table3", "MM-VICUNA-7B: LayerNorm-80K", "MME", show=5)
    print(trace_text(found))                # lntune.commands.trace.text

    found["value"]                          # as it is shown
    found["from"]                           # the results that it is read from, one a seed: each with its row, its seed,
                                            #   its name ("score-mme/NAME-ID"), the hash that its files had, its value
    found["because"]                        # where nothing of ours made it: who says so
    found["results"]                        # those of "from" and all behind them, by name (trace/derivation.py)
    found["examples"]                       # of each of "from": questions, answers, marks (trace/examples.py)

The way leads from the score over answers, selection, checkpoint, connector and samples to the raw files.

Where a cell is printed that the paper took from the literature: in its table, transcribed in workflow/paper.
"""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lntune.commands.trace.derivation import Derivation
from lntune.commands.trace.examples import examples
from lntune.commands.trace.report_item import ReportItem, find_report_item
from lntune.errors import UserError
from lntune.paper.printed import PAPER
from lntune.plan.node import manifest_path
from lntune.plan.plan import SUMMARIES, Plan
from lntune.plan.study import Study
from lntune.plan.targets import asked_files
from lntune.report.cells import cell_of
from lntune.report.rows import LEARNING_RATE, Row, ShownItemSettings, chosen_rates
from lntune.stages.table import Printed
from lntune.stages.table import Settings as TableSettings
from lntune.store.manifest import InputRecord


def trace_cell(
    root: Path,
    report_item: str,
    row: str,
    column: str,
    show: int = 0,
    wrong: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The derivation of a cell, all of it fit for JSON.

    Args:
        root: the checkout.
        report_item: the name of a table or figure, or one of its published files.
        row: a row's title; as "GROUP: TITLE" or "GROUP/TITLE" where several groups have one of that title.
        column: a column: a benchmark, what the CSV says besides of it ("MME 95% interval"), or learning_rate. What the
            CSV calls "minus" another row is read from that row's results as well.
        show: how many questions, with the model's answers and their marks, are found as well.
        wrong: of these, only questions that were answered wrongly.
        overrides: values over config.yaml's, as the run had them.

    Raises:
        UserError: it is not made yet, or there is no such row or column (the near ones are given), or several rows are
            meant, or questions are asked for where a column has none.
    """
    plan = Plan(Study.read(root, overrides))
    files = asked_files(plan.study, report_item)
    if files[0].stem in SUMMARIES:
        raise _of_summary(plan, files[0].stem, row)
    made = find_report_item(plan, root, files)
    cell = _cell(made, row, column)
    found = {
        "table": made.name,
        "row": cell.row,
        "column": cell.column,
        "value": cell.value,
        "scale": made.settings.scale,
        "protocol": made.settings.protocol,
        "notes": made.notes(cell.row, cell.column),
        "result": made.manifest.name,
        "from": _from(made, cell),
        "because": cell.because,
        "results": Derivation(plan, root).behind([*cell.sources, *cell.others]),
    }
    if show:
        if cell.column == LEARNING_RATE or not cell.sources:
            raise UserError(f"{made.path}: {cell.column} of {cell.row} has no questions to show")
        found["examples"] = [examples(plan.store, source, show, wrong) for source in (*cell.sources, *cell.others)]
    return found


def _of_summary(plan: Plan, table: str, row: str) -> UserError:
    """Where the numbers of a table come from that is no report item's: from no model, and by no longer way."""
    node = plan.report_item(table)
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
        return _no_such(f"tables/{table}", "row", row, list(counted))
    return UserError(
        f"tables/{table}: the numbers of {row} are counts, made where the set is: "
        f"see dropped.json and manifest.json in {manifest_path(plan.store, counted[row]).parent}"
    )


# --- the cell --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """One cell and the results that it is read from, one a seed; without any, ``because`` says where it is from.

    ``others`` are the results of another row that it is compared with, whose title is ``minus``.
    """

    row: str
    column: str
    value: str
    sources: tuple[InputRecord, ...] = ()
    because: str = ""
    others: tuple[InputRecord, ...] = ()
    minus: str = ""


def _cell(made: ReportItem, row: str, column: str) -> _Cell:
    settings, scores = made.settings, made.inputs("scores")
    rows = settings.rows
    titles = [(one.group, one.title) for one in rows] + [(one.group, one.title) for one in made.literature]
    place = _row_place(made.path, titles, row)
    if place >= len(rows):
        return _of_literature(made, made.literature[place - len(rows)], column)
    chosen = rows[place]
    name, columns = chosen.name, settings.columns
    column = _column(made, name, [*columns, *_beside(made, name, columns), LEARNING_RATE], column)
    if column == LEARNING_RATE:
        return _of_rate(made, chosen)
    of = next(one for one in columns if column == one or column.startswith(f"{one} "))
    cell = _Cell(name, column, made.shown[name, column], settings.sources(chosen, scores)[of])
    other = _compared_with(settings, chosen, column.removeprefix(of))
    return cell if other is None else replace(cell, others=settings.sources(other, scores)[of], minus=other.name)


def _compared_with(settings: ShownItemSettings, row: Row, rest: str) -> Row | None:
    """The row of the same group that a column of differences, whose name ends in ``rest``, compares with."""
    if not isinstance(settings, TableSettings) or not rest.startswith(f" minus {settings.paired_with}"):
        return None
    return settings.compared_with(row)


def _beside(made: ReportItem, row: str, columns: Sequence[str]) -> list[str]:
    """What the CSV says besides of a column, as its interval."""
    shown = [column for one, column in made.shown if one == row]
    return [column for column in shown if any(column.startswith(f"{one} ") for one in columns)]


def _of_rate(made: ReportItem, row: Row) -> _Cell:
    """A row's learning rate, and the selections that chose it, if it was chosen."""
    if not row.selections and row.learning_rate is None:
        raise UserError(f"{made.path}: {row.name} has no learning rate; no model was tuned for it to the end")
    selections = made.inputs("selections")
    sources = row.chosen(selections)
    value = made.shown.get((row.name, LEARNING_RATE))
    if value is None:
        try:
            value = chosen_rates(row, [made.input_folder(record) for record in selections])
        except (OSError, ValueError, KeyError):
            value = "unknown"
    because = "" if sources else "the row is of this learning rate; none was chosen"
    return _Cell(row.name, LEARNING_RATE, value, sources, because)


def _of_literature(made: ReportItem, row: Printed, column: str) -> _Cell:
    """A cell that the paper took from the literature."""
    name, columns = f"{row.group}: {row.title}", made.settings.columns
    column = _column(made, name, list(columns), column)
    because = printed(made.root, made.name, row.group, row.title, column)
    return _Cell(name, column, row.cells[columns.index(column)], because=because)


def _from(made: ReportItem, cell: _Cell) -> list[dict[str, Any]]:
    """Each result that a cell is read from; ``seed`` is None of what all seeds share."""
    found = []
    for row, sources in ((cell.row, cell.sources), (cell.minus, cell.others)):
        seeds = made.settings.seeds if len(sources) == len(made.settings.seeds) else [None] * len(sources)
        for seed, source in zip(seeds, sources, strict=True):
            told = {"row": row, "seed": seed, "result": source.name, "content": source.content}
            found.append({**told, "value": _own_value(made, cell, source)})
    return found


def _own_value(made: ReportItem, cell: _Cell, source: InputRecord) -> str | None:
    """What the cell would be of this result alone, as it is now; None where that is not known."""
    if cell.column not in made.settings.columns:
        return None
    try:
        settings, folder = made.settings, made.input_folder(source)
        return cell_of(cell.column, [folder], settings.formats.get(cell.column), settings.tokens).text
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- names -----------------------------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    """A name without what people change or leave out: case and spaces."""
    return "".join(name.split()).casefold()


def _row_place(report_item: str, rows: list[tuple[str, str]], asked: str) -> int:
    """The place of the row that is meant; UserError gives the near ones if it is none, and all if it is several."""
    full = [f"{group}: {title}" for group, title in rows]
    forms = [(both, f"{group}/{title}", title) for both, (group, title) in zip(full, rows, strict=True)]
    places = [place for place, names in enumerate(forms) if asked in names]
    places = places or [place for place, names in enumerate(forms) if _plain(asked) in map(_plain, names)]
    if not places:
        titles = [title for _, title in rows]
        raise _no_such(report_item, "row", asked, full, [title for title in titles if titles.count(title) == 1])
    if len(places) > 1:
        meant = "; ".join(full[place] for place in places)
        raise UserError(f"{report_item}: {len(places)} rows are called {asked!r}; name one of: {meant}")
    return places[0]


def _column(made: ReportItem, row: str, known: list[str], asked: str) -> str:
    """The column that is meant, as the header writes it."""
    for column in known:
        if _plain(column) == _plain(asked):
            return column
    if _plain(asked) in {_plain(column) for of, column in made.shown if of == row}:
        raise UserError(f"{made.path}: {asked!r} is no number to be traced; there are {'; '.join(known)}")
    raise _no_such(made.path, "column", asked, known)


def _no_such(report_item: str, kind: str, asked: str, known: list[str], short: Sequence[str] = ()) -> UserError:
    """The near ones of the known names and of their short forms, else all that are known."""
    written = {_plain(name): name for name in [*known, *short]}
    near = difflib.get_close_matches(_plain(asked), list(written), 3, 0.5)
    meant = " or ".join(repr(written[one]) for one in near)
    hint = f"did you mean {meant}?" if near else f"there are {'; '.join(known)}"
    return UserError(f"{report_item}: has no {kind} {asked!r}; {hint}")


_SAID = "as the paper prints it, from the literature; nothing here made it"


def printed(root: Path, table: str, group: str, row: str, column: str) -> str:
    """The file and the lines that a cell was taken from, and what is noted there, in a sentence."""
    path = PAPER / f"{table}.csv"
    lines, notes = [], dict[str, None]()
    try:
        with (root / path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for one in reader:
                if (one["group"], one["row"], one["column"]) == (group, row, column):
                    lines.append(str(reader.line_num))
                    notes[one["note"]] = None
    except (OSError, KeyError):
        lines = []
    if not lines:
        return f"{_SAID}; {path} has no such line any more"
    said = "; ".join(note for note in notes if note)
    return f"{_SAID}: {path}, line{'s' * (len(lines) > 1)} {' and '.join(lines)}{f' ({said})' * bool(said)}"
