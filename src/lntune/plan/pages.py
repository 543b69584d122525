"""Pages: for each table and figure an HTML file, which `snakemake --report` shows with its caption.

    python -m lntune.plan.pages results/table/table3-0123456789ab table3 > pages/table3.html

A page is made from its result's folder alone, so it can be held against it at any time.
"""

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lntune.plan.stages import stage_module
from lntune.report.html import Page, caption, plain_text, render
from lntune.report.rows import CELLS, ShownItemSettings
from lntune.report.rows import notes as notes_of
from lntune.store.layout import MANIFEST

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


def in_order(names: Sequence[str]) -> list[str]:
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
    order = [*PAPERS_ORDER, *(one for one in in_order(names) if one not in PAPERS_ORDER)]
    return f"{order.index(name) + 1:02d} {spoken(name)}"


def spoken(name: str) -> str:
    """``tableA1`` as the paper writes it: Table A1."""
    found = re.fullmatch(r"(table|figure)(A?\d+)", name)
    return f"{found[1].capitalize()} {found[2]}" if found else name.capitalize()


def page_of(folder: Path, name: str) -> Page:
    """The page of a finished result: its Markdown if it has some; of a figure its image, with its settings' notes."""
    markdown, image = folder / f"{name}.md", folder / f"{name}.svg"
    if markdown.is_file():
        title, notes, table = _parts(markdown.read_text())
    else:
        settings = _settings(folder)
        title, notes, table = settings.title, list(notes_of(settings)), ""
    files = {path.name: path for path in (folder / f"{name}.{suffix}" for suffix in KEPT)}
    return Page(
        title=title,
        notes=notes,
        origin=_origin(folder, name),
        table=table,
        image=image.read_bytes() if image.is_file() else None,
        files={one: path.read_bytes() for one, path in files.items() if path.is_file()},
    )


def page_text(folder: Path, name: str) -> str:
    """What the page's file holds."""
    return render(page_of(folder, name))


def caption_of(folder: Path, name: str) -> Caption:
    """What the report shows next to the page of a finished result."""
    page = page_of(folder, name)
    return Caption(page.title, caption(page))


def _parts(text: str) -> tuple[str, list[str], str]:
    """Title, paragraphs before the first table or heading, and the rest."""
    head, _, rest = text.partition("\n")
    begin = re.search(r"^(\||##)", rest, re.MULTILINE)
    until = begin.start() if begin else len(rest)
    notes = [" ".join(note.split()) for note in rest[:until].split("\n\n") if note.strip()]
    return plain_text(head.lstrip("# ")), notes, rest[until:]


def _settings(folder: Path) -> ShownItemSettings:
    manifest = json.loads((folder / MANIFEST).read_text())
    settings = stage_module(manifest["stage"]).Settings.model_validate_json(json.dumps(manifest["settings"]))
    assert isinstance(settings, ShownItemSettings)
    return settings


def _origin(folder: Path, name: str) -> list[str]:
    """How to ask where it comes from."""
    origin = [f"Shows the result `{folder.parent.name}/{folder.name}`; its {MANIFEST} says what it was made from."]
    cells = folder / CELLS
    if cells.is_file() and (listed := json.loads(cells.read_text())):
        command = shlex.join(["lntune", "trace", name, listed[0]["row"], listed[0]["column"]])
        origin.append(f"Where a number comes from, for example the first: `{command}`")
    return origin


if __name__ == "__main__":
    sys.stdout.write(page_text(Path(sys.argv[1]), sys.argv[2]))
