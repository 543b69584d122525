"""The settings of the stages that show tables and figures: the rows, and from which inputs each cell is read.

    settings.sources(row, results)["MME"]       # which of the results fill this cell: a folder, node or record a seed
    row.chosen(selections)                      # which of the selections chose its learning rate

A row names its selections and scores by their places among the inputs, not by folder: what is shown of results of other
names, but of the same content, is the same. Trace, verify and export ask here, too, which result fills which cell.
"""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from pydantic import Field

from lntune.config import Frozen
from lntune.errors import UserError
from lntune.report.cells import NO_SCORE, Cell, ScoreFormat, cell_of

CELLS = "cells.json"
"""The file that says of each cell which inputs it was read from."""

LEARNING_RATE = "learning_rate"
"""The column of a row's learning rate, which selections fill."""

Result = TypeVar("Result")
"""A result as the caller knows it: its folder, its node, or its record in a manifest."""

_TOKENS = {
    "all": "all positions",
    "image": "the image's positions",
    "text": "the text's positions",
    "last": "the last position",
}


class Row(Frozen):
    """One row; its learning rate is the one asked for, None where one was chosen, or nothing was trained.

    ``selections`` are the places of those that chose one, a seed each; ``scores``, for each column, the places of the
    results that its cell is read from, a seed each.
    """

    group: str
    title: str
    learning_rate: float | None
    selections: tuple[int, ...] = Field(strict=False)
    scores: tuple[tuple[int, ...], ...] = Field(strict=False)
    others: bool = Field(default=False, exclude_if=lambda others: not others, description="not of a model tuned here")

    @property
    def name(self) -> str:
        """As cells are named: ``GROUP: TITLE``."""
        return f"{self.group}: {self.title}"

    def chosen(self, selections: Sequence[Result]) -> tuple[Result, ...]:
        """The selections that chose its learning rate, of those that play that role."""
        return tuple(selections[place] for place in self.selections)


class ShownItemSettings(Frozen):
    """What a table or figure says besides its numbers. The inputs' roles are ``selections`` and ``scores``."""

    name: str
    title: str
    note: str
    columns: tuple[str, ...] = Field(strict=False)
    rows: tuple[Row, ...] = Field(strict=False)
    scale: str
    scale_note: str
    protocol: str
    split: str
    search: str = Field(default="", exclude_if=lambda text: not text, description="as of a selection, of any row's")
    seeds: tuple[int, ...] = Field(strict=False)
    tokens: Literal["all", "image", "text", "last"] | None
    similarity_on: str = ""
    measured_in: str = Field(default="", description="the precision of the training step whose memory is shown")
    answered_in: str = Field(default="", description="precision and batch of the answers that are scored, if not fp32")
    formats: dict[str, ScoreFormat] = Field(description="how the cells of a benchmark's column are read, by column")

    def places(self, row: Row) -> dict[str, tuple[int, ...]]:
        """Column to the places of the results that fill the row's cell, among those that play ``scores``."""
        return dict(zip(self.columns, row.scores, strict=True))

    def sources(self, row: Row, scores: Sequence[Result]) -> dict[str, tuple[Result, ...]]:
        """Column to the results that fill the row's cell, of those that play ``scores``."""
        return {column: tuple(scores[place] for place in places) for column, places in self.places(row).items()}


class Titled(Protocol):
    """A row of ours, or one from the literature."""

    @property
    def group(self) -> str: ...
    @property
    def title(self) -> str: ...


AnyRow = TypeVar("AnyRow", bound=Titled)


def plain(name: str) -> str:
    """A name without what people change or leave out: case and spaces."""
    return "".join(name.split()).casefold()


def row_called(rows: Sequence[AnyRow], asked: str, where: str) -> AnyRow:
    """The row that is meant by its title, ``GROUP: TITLE`` or ``GROUP/TITLE``.

    UserError, which begins with ``where``, gives the near ones if it is none, and all if it is several.
    """
    forms = {(f"{one.group}: {one.title}", f"{one.group}/{one.title}", one.title): one for one in rows}
    meant = [names for names in forms if asked in names]
    meant = meant or [names for names in forms if plain(asked) in map(plain, names)]
    if not meant:
        titles = [one.title for one in rows]
        full = [name for name, *_ in forms]
        raise no_such(where, "row", asked, full, [title for title in titles if titles.count(title) == 1])
    if len(meant) > 1:
        several = "; ".join(name for name, *_ in meant)
        raise UserError(f"{where} {len(meant)} rows are called {asked!r}; name one of: {several}")
    return forms[meant[0]]


def no_such(where: str, kind: str, asked: str, known: Sequence[str], short: Sequence[str] = ()) -> UserError:
    """The near ones of the known names and of their short forms, else all that are known."""
    written = {plain(name): name for name in [*known, *short]}
    near = difflib.get_close_matches(plain(asked), list(written), 3, 0.5)
    meant = " or ".join(repr(written[one]) for one in near)
    hint = f"did you mean {meant}?" if near else f"there are {'; '.join(known)}"
    return UserError(f"{where} has no {kind} {asked!r}; {hint}")


def cells_of(settings: ShownItemSettings, scores: Sequence[Path]) -> list[list[Cell]]:
    """The cells of each row; ``scores`` are the folders that play that role."""
    return [
        [
            cell_of(column, folders, settings.formats.get(column), settings.tokens)
            for column, folders in settings.sources(row, scores).items()
        ]
        for row in settings.rows
    ]


def rate_text(rate: float) -> str:
    """A learning rate as the paper writes it: 3e-6, 6e-4, 2e-3."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def chosen_rates(row: Row, selections: Sequence[Path]) -> str:
    """The learning rate of a row as its table shows it; of several seeds, each if they differ."""
    if row.learning_rate is not None:
        return rate_text(row.learning_rate)
    found = [json.loads((one / "selection.json").read_bytes())["learning_rate"] for one in row.chosen(selections)]
    rates = [NO_SCORE if rate is None else f"{rate:g}" for rate in found]
    return rates[0] if len(set(rates)) == 1 else "; ".join(rates)


def write_cells(out: Path, settings: ShownItemSettings, cells: Sequence[Sequence[Cell]]) -> None:
    """Write cells.json: row, column, value, its parts, the places of the inputs it was read from, and its note."""
    parts = {column: [one.part for one in format.values] for column, format in settings.formats.items()}
    found = [
        {
            "row": row.name, "column": column, "value": cell.text, "parts": parts.get(column, [""]),
            "scores": places, "selections": row.selections,
            **({"note": cell.note} if cell.note else {}),
        }
        for row, its in zip(settings.rows, cells, strict=True)
        for (column, places), cell in zip(settings.places(row).items(), its, strict=True)
    ]  # fmt: skip
    (out / CELLS).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def scale_note(settings: ShownItemSettings) -> str:
    """The first sentence of what is said of the scale, without marks: what fits under a figure."""
    return settings.scale_note.replace("**", "").partition(". ")[0].rstrip(".") + "."


def without_model(settings: ShownItemSettings, cells: Sequence[Sequence[Cell]]) -> tuple[str, ...]:
    """A sentence on each row that has no scores because training diverged, or its search stopped it."""
    found = [(row, cell.note) for row, its in zip(settings.rows, cells, strict=True) for cell in its if cell.note]
    return tuple(dict.fromkeys(f"{row.name} has no scores: training {note}." for row, note in found))


def notes(settings: ShownItemSettings, missing: Sequence[str] = ()) -> tuple[str, ...]:
    """What is to be read with a table or figure: scale, its own note, how the numbers came about, what is missing."""
    said = f"Scale: {settings.scale}. Protocol: {settings.protocol}."
    if any(row.selections for row in settings.rows):
        leak = " (the split that is reported, as in the paper: the choice leaks)" if settings.split == "test" else ""
        said += f" Learning rates chosen by CIDEr on Flickr30k's {settings.split} split{leak}."
        said += f" Searched by {settings.search}." if settings.search else ""
    if settings.tokens is not None:
        said += f" Similarity over {_TOKENS[settings.tokens]} of the prompts of {settings.similarity_on}."
    if settings.measured_in:
        said += f" Memory of training in {settings.measured_in}."
    if settings.answered_in:
        said += f" Answers computed in {settings.answered_in}."
    if any(row.others for row in settings.rows):
        said += " Other models: released ones, asked through their own processors, or answers that others got."
    if len(settings.seeds) > 1:
        said += f" Means over {len(settings.seeds)} seeds."
    return tuple(note for note in (settings.scale_note, settings.note, said, *missing) if note)
