"""What the page of a table or figure holds: its notes, its rows as the paper prints them, all of its CSV, its cells.

A cell's value is the CSV's, or what cells.json says where a figure's CSV is a list of points; where it comes from is
asked as `lntune trace` asks (lntune.report.rows).
"""

import csv
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from lntune.paper.comparison import Compared, compare, signed
from lntune.paper.printed import INTERVAL, PAPER, read_ours, read_paper
from lntune.plan.derivation import players
from lntune.plan.plan import shown_settings
from lntune.report.published import Shown, shown_if_cells
from lntune.report.rows import CELLS, LEARNING_RATE, ShownItemSettings
from lntune.report.rows import notes as notes_of
from lntune.site.address import cell_address
from lntune.stages.table import Settings as TableSettings
from lntune.store.manifest import MANIFEST, InputRecord, read_manifest

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

PAPERS_ORDER = (
    "figure1", "table1", "table2", "figure2", "table3", "table4", "table5", "figure3", "table6", "figure4",
    "tableA1", "figureA1", "figureA2", "figureA3", "figureA4", "claims", "comparison", "data",
)  # fmt: skip
"""The paper's tables and figures as they come in it, and what comes after them; tables of one's own follow."""

MOST_LINES = 1000
"""So many lines of a CSV are shown; all are in the file."""

KEPT = ("csv", "md", "tex", "pdf", "svg", "png")

LITERATURE = "as the paper prints it, from the literature; nothing here made it"

Key = tuple[str, str, str]
"""A cell: the row's group, its title, and the column."""


def in_order(names: Sequence[str]) -> list[str]:
    """Names of tables and figures, in the paper's order, then what it has not."""
    return sorted(names, key=lambda name: (PAPERS_ORDER.index(name) if name in PAPERS_ORDER else 99, name))


def display_name(name: str) -> str:
    """What a table or figure is called: ``Table A1``."""
    found = re.fullmatch(r"(table|figure)(A?\d+)", name)
    return f"{found[1].capitalize()} {found[2]}" if found else name.capitalize()


@dataclass(frozen=True)
class HtmlCell:
    """A cell as it is written: what it shows, where it leads, and whether it heads its row or stands over several."""

    text: str | Markup
    href: str = ""
    head: bool = False
    span: int = 1
    beside: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class HtmlTable:
    """A table as a page shows it, under a caption."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[HtmlCell]]


@dataclass(frozen=True)
class Item:
    """A finished table or figure: of the result in ``folder``, of a checkout at ``root``."""

    name: str
    folder: Path
    root: Path

    @cached_property
    def _manifest(self) -> Any:
        return read_manifest(self.folder / MANIFEST)

    @property
    def result(self) -> str:
        """Its result, STAGE/NAME."""
        return str(self._manifest.name)

    @cached_property
    def _settings(self) -> ShownItemSettings | None:
        """The settings of a table or figure of rows; None of one of the tables that are no report item's."""
        has_rows = (self.folder / CELLS).is_file()
        return shown_settings(self._manifest, f"tables/{self.name}") if has_rows else None

    @cached_property
    def _markdown(self) -> tuple[str, list[str], list[str]]:
        """Title, notes above its first table, and the lines from there on; a figure has no Markdown."""
        file = self.folder / f"{self.name}.md"
        if not file.is_file():
            assert self._settings is not None, "a figure"
            return self._settings.title, list(notes_of(self._settings)), []
        head, _, rest = file.read_text(encoding="utf-8").partition("\n")
        begin = re.search(r"^(\||##)", rest, re.MULTILINE)
        until = begin.start() if begin else len(rest)
        title = html.unescape(re.sub(r"<[^>]*>", "", _renderer().renderInline(head.lstrip("# "))))
        return title, [note for note in rest[:until].split("\n\n") if note.strip()], rest[until:].splitlines()

    @property
    def title(self) -> str:
        """Its title as plain text."""
        return self._markdown[0]

    @property
    def notes(self) -> Markup:
        """What is to be read with it."""
        return rendered("\n\n".join(self._markdown[1]))

    @property
    def below(self) -> Markup:
        """Footnotes; of a table without rows of models, all of its Markdown."""
        lines = self._markdown[2]
        return rendered("\n".join(line for line in lines if self._settings is None or not line.startswith("|")))

    def files(self) -> Iterator[Path]:
        """The files that it publishes."""
        yield from (file for suffix in KEPT if (file := self.folder / f"{self.name}.{suffix}").is_file())

    @cached_property
    def _csv(self) -> list[list[str]]:
        with (self.folder / f"{self.name}.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    @cached_property
    def _in_csv(self) -> Shown:
        return shown_if_cells(self.folder / f"{self.name}.csv")

    @cached_property
    def compared(self) -> Mapping[Key, list[Compared]]:
        """What the paper prints in each cell, beside ours."""
        paper, found = self.root / PAPER / f"{self.name}.csv", dict[Key, list[Compared]]()
        if self._settings is not None and paper.is_file():
            for one in compare(read_paper(paper), read_ours(self.name, self.folder)):
                found.setdefault((one.place.group, one.place.row, one.place.column), []).append(one)
        return found

    @cached_property
    def cells(self) -> dict[Key, dict[str, Any]]:
        """Each cell with its value, what the CSV says besides of it, the paper's, and what it is read from."""
        settings, found = self._settings, dict[Key, dict[str, Any]]()
        if settings is None:
            return found
        values = {(one["row"], one["column"]): one for one in json.loads((self.folder / CELLS).read_bytes())}
        for row in settings.rows:
            sources: dict[str, tuple[InputRecord, ...]] = dict(settings.sources(row, players(self._manifest, "scores")))
            if row.selections:
                sources[LEARNING_RATE] = row.chosen(players(self._manifest, "selections"))
            for column, records in sources.items():
                one = values.get((row.name, column), {})
                value = str(one.get("value", self._in_csv.get((row.name, column), "")))
                key = (row.group, row.title, column)
                found[key] = self._cell(key, value, records, one.get("note", ""))
        for printed in settings.literature if isinstance(settings, TableSettings) else ():
            for column, text in zip(settings.columns, printed.cells, strict=True):
                found[printed.group, printed.title, column] = self._cell(
                    (printed.group, printed.title, column), text, (), LITERATURE
                )
        return found

    def _cell(self, key: Key, value: str, records: Sequence[InputRecord], note: str) -> dict[str, Any]:
        group, title, column = key
        settings, its = self._settings, self.compared.get(key, [])
        assert settings is not None
        seeds = settings.seeds if len(records) == len(settings.seeds) > 1 else [None] * len(records)
        beside = {
            name: text
            for (row, name), text in self._in_csv.items()
            if row == f"{group}: {title}" and name.startswith(f"{column} ") and text
        }
        return {
            "key": key,
            "value": value,
            "beside": beside,
            "note": note,
            "paper": "/".join(one.paper.text for one in its),
            "difference": "/".join(signed(one) or "-" for one in its) if any(map(signed, its)) else "",
            "from": [{"seed": seed, "result": one.name} for seed, one in zip(seeds, records, strict=True)],
        }

    # --- as HTML ------------------------------------------------------------------------------------------------------

    def tables(self) -> Iterator[HtmlTable]:
        """The table as the paper prints it, of a figure what its cells say; then all of the CSV."""
        if self._settings is not None:
            yield self._as_printed() if isinstance(self._settings, TableSettings) else self._of_figure()
        header, *lines = self._csv
        more = f" (the first {MOST_LINES:,} of {len(lines):,} lines)" if len(lines) > MOST_LINES else ""
        rows = [[*self._line(header, line)] for line in lines[:MOST_LINES]]
        yield HtmlTable(f"All columns of {self.name}.csv{more}", header, rows)

    def _line(self, header: Sequence[str], line: Sequence[str]) -> Iterator[HtmlCell]:
        for place, (name, text) in enumerate(zip(header, line, strict=True)):
            yield HtmlCell(text, self._href(dict(zip(header, line, strict=True)), name), head=place == 0)

    def _href(self, record: Mapping[str, str], column: str) -> str:
        """Where a field of the CSV leads: its own cell; of a comparison, that of the table that is compared."""
        if self.name == "comparison" and column == "ours" and record[column]:
            return _anchor(record["table"], (record["group"], record["row"], record["column"]))
        if self.name == "data" and column in ("read", "kept"):
            (place,) = [at for at, line in enumerate(self._csv[1:]) if line[0] == record["set"]]
            return f"#!result/{players(self._manifest, 'sets')[place].name}"
        for group, title, of in self.cells:
            its = column == of or column.startswith(f"{of} ")
            if its and (group, title) == (record.get("model"), record.get("method")) and record[column]:
                return _anchor(self.name, (group, title, column))
        return ""

    def _shown(self, key: Key, text: str | Markup) -> HtmlCell:
        cell = self.cells.get(key)
        if cell is None or not text:
            return HtmlCell(text)
        said = [("paper", cell["paper"]), ("difference", cell["difference"])] if cell["from"] else []
        if not (isinstance(self._settings, TableSettings) and self._settings.intervals):  # which has them in its cells
            said.insert(0, ("interval", cell["beside"].get(f"{key[2]}{INTERVAL}", "")))
        return HtmlCell(text, _anchor(self.name, key), beside=[(name, one) for name, one in said if one])

    def _of_figure(self) -> HtmlTable:
        assert self._settings is not None
        columns = [*self._settings.columns]
        rows = [
            [HtmlCell(row.name, head=True)]
            + [self._shown(key, self.cells[key]["value"]) for key in ((row.group, row.title, one) for one in columns)]
            for row in self._settings.rows
        ]
        return HtmlTable(f"The numbers of {display_name(self.name)}", ["Model", *columns], rows)

    def _as_printed(self) -> HtmlTable:
        """The lines of the Markdown; whose cells they are follows from the layout (lntune.report.layout)."""
        settings = self._settings
        assert isinstance(settings, TableSettings)
        columns, by_group = settings.columns, dict[tuple[str, bool], list[str]]()
        for printed in settings.literature:
            by_group.setdefault((printed.group, True), []).append(printed.title)
        for row in settings.rows:
            by_group.setdefault((row.group, False), []).append(row.title)
        groups = [group for group, _ in by_group]
        titles = list(dict.fromkeys(title for its in by_group.values() for title in its))
        header, *lines = [_cells_of(line) for line in self._markdown[2] if line.startswith("|")]
        rows: list[list[HtmlCell]] = []
        waiting = iter([(group, title) for (group, _), its in by_group.items() for title in its])
        for number, line in enumerate(lines[1:]):
            name, *texts = line
            if settings.layout == "groups" and not any(texts):
                rows.append([HtmlCell(_marked(name), head=True, span=len(line))])
                continue
            if settings.layout == "groups":
                group, title = next(waiting)
                keys: list[Key] = [(group, title, one) for one in columns]
            elif settings.layout == "groups-across":
                keys = [(group, titles[number], one) for group in groups for one in columns]
            else:
                keys = [(groups[number], title, one) for title in titles for one in columns]
            shown = [self._shown(key, _marked(text)) for key, text in zip(keys, texts, strict=True)]
            rows.append([HtmlCell(_plain(name), head=True), *shown])
        return HtmlTable(self.title, [_plain(text) for text in header], rows)


def _anchor(item: str, key: Key) -> str:
    return "#" + cell_address(item, *key).partition("#")[2]


def _cells_of(line: str) -> list[str]:
    """The fields of a line of a Markdown table."""
    return [text.strip() for text in re.split(r"(?<!\\)\|", line)[1:-1]]


def _plain(text: str) -> str:
    """A field without Markdown's backslashes."""
    return re.sub(r"\\(.)", r"\1", text)


def _marked(text: str) -> Markup:
    """A field with what is bold, underlined or in italics, and nothing else that HTML would take for its own."""
    found = re.sub(r"(?<!\\)\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    found = re.sub(r"^\*(.+)\*$", r"<em>\1</em>", found)
    return Markup(_plain(found.replace("&lt;u&gt;", "<u>").replace("&lt;/u&gt;", "</u>")))


@cache
def _renderer() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


def rendered(text: str) -> Markup:
    """Markdown as HTML; HTML in it stays text, and no image is loaded."""
    return Markup(_renderer().disable("image").render(text))
