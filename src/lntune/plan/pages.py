"""Pages: for each table and figure an HTML file, which `snakemake --report` shows with its caption.

    python -m lntune.plan.pages results/table/table3-0123456789ab table3 > pages/table3.html

It is made from its result's folder alone, so it can be held against it at any time, and renders the Markdown there.
"""

import base64
import html
import json
import mimetypes
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lntune.errors import UserError
from lntune.plan.stages import stage_module
from lntune.report.rows import CELLS, ShownItemSettings
from lntune.report.rows import notes as notes_of
from lntune.store.manifest import MANIFEST, remedy

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

PAGES = "pages"

PAPERS_ORDER = (
    "figure1", "table1", "table2", "figure2", "table3", "table4", "table5", "figure3", "table6", "figure4",
    "tableA1", "figureA1", "figureA2", "figureA3", "figureA4",
)  # fmt: skip
"""The paper's tables and figures as they come in it."""
BESIDE = ("claims", "comparison", "data")
"""What comes after them; tables of one's own follow."""

KEPT = ("csv", "md", "tex", "pdf")
"""The files that a page offers to keep."""

_STYLE = Path(__file__).resolve().parents[3] / "workflow" / "report" / "page.css"


@dataclass(frozen=True)
class Caption:
    """What the report shows next to a page: its title as plain text, and title and notes as HTML on one line."""

    title: str
    html: str = ""

    def __repr__(self) -> str:
        """How Snakemake lists it under "Job parameters", below the caption itself."""
        return "above"


def page_path(name: str) -> Path:
    """Where the page of a table or figure is or will be."""
    return Path(PAGES) / f"{name}.html"


def in_order(names: Iterable[str]) -> list[str]:
    """Names of tables and figures, in the paper's order, then what it has not."""
    known = [*PAPERS_ORDER, *BESIDE]
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def category(name: str) -> str:
    """The report's category of a table or figure; Snakemake puts categories in alphabetical order."""
    return "Figures and tables" if name in PAPERS_ORDER else "More tables"


def label(name: str, names: Sequence[str]) -> str:
    """What the report calls a table or figure: ``02 Table 1``. Snakemake puts labels in alphabetical order.

    The number is its place in the paper, also where some of the others are missing; after the paper's come ``names``.
    """
    paper = re.fullmatch(r"(table|figure)(A?\d+)", name)
    spoken = f"{paper[1].capitalize()} {paper[2]}" if paper else name.capitalize()
    return f"{in_order({*PAPERS_ORDER, *names}).index(name) + 1:02d} {spoken}"


def page_text(folder: Path, name: str) -> str:
    """What the page of a finished result holds: a table below its notes, or a figure above them, and its files."""
    title, notes, table = _content(folder, name)
    title, about = html.escape(title), f'<div class="notes">\n{_rendered(notes)}</div>\n'
    image = folder / f"{name}.svg"
    if image.is_file():
        shown = f'<div class="shown">\n<img alt="{title}" src="{_data_uri(image)}">\n</div>\n{about}'
    else:
        shown = f'{about}<div class="shown">\n{_table(table)}</div>\n'
    files = [path for path in (folder / f"{name}.{suffix}" for suffix in KEPT) if path.is_file()]
    links = [
        f'<a download="{html.escape(one.name)}" href="{_data_uri(one)}">{html.escape(one.name)}</a>' for one in files
    ]
    kept = f"<p>Files: {', '.join(links)}</p>\n" if links else ""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n<h1>{title}</h1>\n"
        f'{shown}<div class="notes">\n{_rendered(_origin(folder, name))}{kept}</div>\n</html>\n'
    )


def caption_of(folder: Path, name: str) -> Caption:
    """What the report shows next to the page of a finished result."""
    title, notes, _ = _content(folder, name)
    text = f"<p><strong>{html.escape(title)}</strong></p>{_rendered([*notes, *_origin(folder, name)])}"
    return Caption(title, " ".join(f'<div style="max-width: 26rem">{text}</div>'.split()))


def _content(folder: Path, name: str) -> tuple[str, list[str], str]:
    """Title as plain text, notes and table as Markdown; of a figure, which has no Markdown, by its settings."""
    file = folder / f"{name}.md"
    if not file.is_file():
        manifest = _read(folder / MANIFEST, json.loads)
        settings = stage_module(manifest["stage"]).Settings.model_validate_json(json.dumps(manifest["settings"]))
        assert isinstance(settings, ShownItemSettings)
        return settings.title, list(notes_of(settings)), ""
    head, _, rest = _read(file).partition("\n")
    begin = re.search(r"^(\||##)", rest, re.MULTILINE)
    until = begin.start() if begin else len(rest)
    notes = [" ".join(note.split()) for note in rest[:until].split("\n\n") if note.strip()]
    title = re.sub(r"<[^>]*>", "", _markdown().renderInline(head.lstrip("# ")))
    return html.unescape(title), notes, rest[until:]


def _read(file: Path, parse: Callable[[str], Any] = str) -> Any:
    """A result's file of text; UserError if it is damaged."""
    try:
        return parse(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: damaged ({error}); {remedy(file.parent)}") from error


def _origin(folder: Path, name: str) -> list[str]:
    """How to ask where it comes from."""
    origin = [f"Shows the result `{folder.parent.name}/{folder.name}`; its {MANIFEST} says what it was made from."]
    cells = folder / CELLS
    if cells.is_file() and (listed := _read(cells, json.loads)):
        command = shlex.join(["lntune", "trace", name, listed[0]["row"], listed[0]["column"]])
        origin.append(f"Where a number comes from, for example the first: `{command}`")
    return origin


@cache
def _markdown() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable("table")


def _rendered(notes: Sequence[str]) -> str:
    return str(_markdown().render("\n\n".join(notes)))


def _table(text: str) -> str:
    """Markdown as HTML; a row of a title and nothing else heads a group of rows."""
    lines = str(_markdown().render(text)).split("<tr>\n")
    for place, row in enumerate(lines[1:], start=1):
        cells = row.partition("</tr>")[0].split("\n")[:-1]
        if len(cells) > 1 and cells[0].startswith("<td><em>") and set(cells[1:]) == {"<td></td>"}:
            head = cells[0].replace("<td>", f'<td colspan="{len(cells)}">', 1)
            lines[place] = f'<tr class="group">\n{head}\n</tr>{row.partition("</tr>")[2]}'
        else:
            lines[place] = f"<tr>\n{row}"
    return "".join(lines)


def _data_uri(file: Path) -> str:
    media_type = mimetypes.guess_type(file.name)[0] or "text/plain"
    return f"data:{media_type};base64,{base64.b64encode(file.read_bytes()).decode()}"


if __name__ == "__main__":
    sys.stdout.write(page_text(Path(sys.argv[1]), sys.argv[2]))
