"""A laid-out table as Markdown: the best figures bold, the second best underlined."""

import re
from collections.abc import Sequence

from lntune.report.layout import LITERATURE_NOTE, LaidOut, ShownCell, ShownValue, Title

DAGGER = "†"
INTERVALS_NOTE = "In brackets: bootstrap 95% intervals over what was asked."

_STYLES = {"best": "**{}**", "second": "<u>{}</u>", "none": "{}"}
_SPECIAL = re.compile(r"[\\|*_<>`\[\]~]|&(?=#?\w+;)|#(?=#*$)")


def markdown_table(table: LaidOut, *, title: str, notes: Sequence[str]) -> str:
    """The table as Markdown; ``notes``, in Markdown too, are paragraphs between title and table.

    Markdown has no titles that span columns: what stands over a column is written before its title.
    """
    paragraphs = [f"# {_text(title)}", *notes, "\n".join(_lines(table))]
    below = [INTERVALS_NOTE] if table.intervals else []
    if table.literature:
        below.append(f"{DAGGER} {LITERATURE_NOTE}")
    return "\n\n".join(paragraphs + below) + "\n"


def _lines(table: LaidOut) -> list[str]:
    above = [[_title(title) for title in line for _ in range(title.span)] for line in table.header]
    header = [": ".join(filter(None, over)) for over in zip(*above, strict=True)]
    lines = [_line(header), "|" + " --- |" * table.columns]
    for block in table.blocks:
        if block.title is not None:
            lines.append(_line([f"*{_text(block.title)}*"] + [""] * (table.columns - 1)))
        lines += [_line([_title(line.title), *map(_cell, line.cells)]) for line in block.lines]
    return lines


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _title(title: Title) -> str:
    return _text(title.text) + (DAGGER if title.literature else "")


def _text(text: str) -> str:
    """A text in one line whose characters all stand for themselves."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def _cell(figures: ShownCell) -> str:
    between = " / " if any(figure.bounds for figure in figures) else "/"
    return between.join(map(_figure, figures))


def _figure(figure: ShownValue) -> str:
    text = _STYLES[figure.mark].format(figure.text)
    return text if figure.bounds is None else f"{text} [{', '.join(figure.bounds)}]"
