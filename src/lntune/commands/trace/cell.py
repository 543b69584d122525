"""Where one number of a table or figure comes from: its cell, and every result behind it, from the manifests alone.

    found = trace_cell(Path("."), "table3", "MM-VICUNA-7B: LayerNorm-80K", "POPE", show=5)
    print(trace_text(found))                # lntune.commands.trace.text

    found["value"]                          # as it is shown
    found["from"]                           # the results that it is read from, one a seed: each with its row, its seed,
                                            #   its name ("score-pope/NAME-ID"), the hash that its files had, its value
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
from lntune.plan.models import Plan
from lntune.plan.node import manifest_path
from lntune.plan.study import Study
from lntune.plan.summary_tables import SUMMARIES
from lntune.plan.targets import asked_files
from lntune.report.cells import ScoreFormat, cell_of
from lntune.report.rows import Row, chosen_rates
from lntune.store.manifest import InputRecord

_LEARNING_RATE = "learning_rate"


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
        column: a column: a benchmark, what the CSV says besides of it ("POPE 95% interval"), or learning_rate. What the
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
        "scale": made.settings["scale"],
        "protocol": made.settings["protocol"],
        "notes": made.notes(cell.row, cell.column),
        "result": made.manifest.name,
        "from": _from(made, cell),
        "because": cell.because,
        "results": Derivation(plan, root).behind([*cell.sources, *cell.others]),
    }
    if show:
        if cell.column == _LEARNING_RATE or not cell.sources:
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
    titles = [(one.group, one.title) for one in made.rows]
    place = _row_place(made.path, [*titles, *made.literature], row)
    if place >= len(titles):
        return _of_literature(made, *made.literature[place - len(titles)], column)
    chosen = made.rows[place]
    name = f"{chosen.group}: {chosen.title}"
    columns: list[str] = made.settings["columns"]
    column = _column(made, name, [*columns, *_beside(made, name, columns), _LEARNING_RATE], column)
    if column == _LEARNING_RATE:
        return _of_rate(made, chosen, name)
    of = next(place for place, one in enumerate(columns) if column == one or column.startswith(f"{one} "))
    cell = _Cell(name, column, made.shown[name, column], made.inputs("scores", chosen.scores[of]))
    other = _compared_with(made, chosen, column.removeprefix(columns[of]))
    if other is None:
        return cell
    return replace(cell, others=made.inputs("scores", other.scores[of]), minus=f"{other.group}: {other.title}")


def _compared_with(made: ReportItem, row: Row, rest: str) -> Row | None:
    """The row of the same group that a column of differences, whose name ends in ``rest``, compares with."""
    title = made.settings.get("paired_with")
    if title is None or not rest.startswith(f" minus {title}"):
        return None
    return next((one for one in made.rows if (one.group, one.title) == (row.group, title)), None)


def _beside(made: ReportItem, row: str, columns: Sequence[str]) -> list[str]:
    """What the CSV says besides of a column, as its interval."""
    shown = [column for one, column in made.shown if one == row]
    return [column for column in shown if any(column.startswith(f"{one} ") for one in columns)]


def _of_rate(made: ReportItem, row: Row, name: str) -> _Cell:
    """A row's learning rate, and the selections that chose it, if it was chosen."""
    if not row.selections and row.learning_rate is None:
        raise UserError(f"{made.path}: {name} has no learning rate; no model was tuned for it to the end")
    sources = made.inputs("selections", row.selections)
    value = made.shown.get((name, _LEARNING_RATE))
    if value is None:
        records = made.inputs("selections", range(max(row.selections, default=-1) + 1))
        try:
            value = chosen_rates(row, tuple(made.input_folder(record) for record in records))
        except (OSError, ValueError, KeyError):
            value = "unknown"
    because = "" if sources else "the row is of this learning rate; none was chosen"
    return _Cell(name, _LEARNING_RATE, value, sources, because)


def _of_literature(made: ReportItem, group: str, title: str, column: str) -> _Cell:
    """A cell that the paper took from the literature."""
    name = f"{group}: {title}"
    column = _column(made, name, made.settings["columns"], column)
    place = made.settings["columns"].index(column)
    (row,) = (one for one in made.settings["literature"] if (one["group"], one["title"]) == (group, title))
    return _Cell(name, column, row["cells"][place], because=printed(made.root, made.name, group, title, column))


def _from(made: ReportItem, cell: _Cell) -> list[dict[str, Any]]:
    """Each result that a cell is read from; ``seed`` is None of what all seeds share."""
    found = []
    for row, sources in ((cell.row, cell.sources), (cell.minus, cell.others)):
        seeds = made.settings["seeds"] if len(sources) == len(made.settings["seeds"]) else [None] * len(sources)
        for seed, source in zip(seeds, sources, strict=True):
            told = {"row": row, "seed": seed, "result": source.name, "content": source.content}
            found.append({**told, "value": _own_value(made, cell, source)})
    return found


def _own_value(made: ReportItem, cell: _Cell, source: InputRecord) -> str | None:
    """What the cell would be of this result alone, as it is now; None where that is not known."""
    if cell.column not in made.settings["columns"]:
        return None
    try:
        given = made.settings["formats"].get(cell.column)
        format = None if given is None else ScoreFormat.model_validate(given)
        return cell_of(cell.column, [made.input_folder(source)], format, made.settings["tokens"]).text
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
