"""A table or figure as one HTML file that needs nothing else: title, what is shown, notes, and its files to keep.

Tables and notes are written as Markdown elsewhere; this renders it, so a page says what the Markdown says.
"""

import base64
import html
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; padding: 1.5rem 2rem;
  max-width: 76rem; }
h1 { font-size: 1.25rem; line-height: 1.35; margin: 0 0 1rem; }
h2 { font-size: 1.05rem; margin: 1.5rem 0 0.5rem; }
.shown { overflow-x: auto; margin: 0 0 1.25rem; }
table { border-collapse: collapse; border-top: 2px solid #1a1a1a; border-bottom: 2px solid #1a1a1a; font-size: 14px; }
table + table { margin-top: 1.25rem; }
th { border-bottom: 1px solid #1a1a1a; vertical-align: bottom; font-weight: 600; }
th, td { padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
th:last-child, td:last-child { padding-right: 0; }
tr.group td { border-top: 1px solid #999; padding-top: 0.5rem; font-style: italic; }
tbody tr.group:first-child td { border-top: none; }
img { max-width: 100%; height: auto; }
.notes { max-width: 46rem; color: #333; }
.notes p { margin: 0 0 0.6rem; }
code { font-family: ui-monospace, monospace; font-size: 0.92em; background: #f2f2f2; padding: 0.1em 0.3em; }
a { color: #0b5394; }
"""


@dataclass(frozen=True)
class Page:
    """The content of a page.

    Attributes:
        title: plain text.
        notes: paragraphs of Markdown: above a table, below a figure.
        origin: paragraphs of Markdown at the end: how to ask where it comes from.
        table: what is shown, as Markdown; empty for a figure.
        image: what is shown, as SVG; None for a table.
        files: name to content of what can be saved.
    """

    title: str
    notes: Sequence[str]
    origin: Sequence[str] = ()
    table: str = ""
    image: bytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


@cache
def _markdown() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable("table")


def render(page: Page) -> str:
    """The page as an HTML document; the same page gives the same text."""
    notes = f'<div class="notes">\n{_paragraphs(page.notes)}</div>\n'
    if page.image is None:
        shown = f'{notes}<div class="shown">\n{_table(page.table)}</div>\n'
    else:
        source = _data_uri("image/svg+xml", page.image)
        shown = f'<div class="shown">\n<img alt="{html.escape(page.title)}" src="{source}">\n</div>\n{notes}'
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html.escape(page.title)}</title>\n<style>\n{STYLE}</style>\n"
        f"<h1>{html.escape(page.title)}</h1>\n"
        f'{shown}<div class="notes">\n{_paragraphs(page.origin)}{_files(page.files)}</div>\n</html>\n'
    )


def caption(page: Page) -> str:
    """Title and notes as HTML on one line, for a place next to the page."""
    title = f"<p><strong>{html.escape(page.title)}</strong></p>"
    return " ".join(f'<div style="max-width: 26rem">{title}{_paragraphs((*page.notes, *page.origin))}</div>'.split())


def plain_text(line: str) -> str:
    """A line of Markdown without its marks."""
    return html.unescape(re.sub(r"<[^>]*>", "", _markdown().renderInline(line)))


def _paragraphs(notes: Sequence[str]) -> str:
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


def _files(files: Mapping[str, bytes]) -> str:
    links = [
        f'<a download="{html.escape(name)}" href="{_data_uri(_media_type(name), content)}">{html.escape(name)}</a>'
        for name, content in files.items()
    ]
    return f"<p>Files: {', '.join(links)}</p>\n" if links else ""


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "text/plain"


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
