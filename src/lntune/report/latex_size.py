"""In which size of type a LaTeX table fits a page of the article class, the smallest of the common ones.

LaTeX alone knows how wide text becomes; what is reckoned here, from the widths of Computer Modern's characters, is a
few percent too much rather than too little.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lntune.report.layout import LaidOut, ShownCell

TEXT_WIDTH = 345.0
TEXT_HEIGHT = 550.0
"""The text block of the article class at 10 points on letter paper, in points."""

STRETCH = 1.35
"""Between lines with intervals, which stand above and below the figures."""

_RULE, _TITLE_SPACE = 5.0, 2.0
_NOTE_LINE, _NOTE_DIGIT, _NOTE_SPACE = 9.5, 3.9, 2.0
_CAPTION_LINE, _CAPTION_DIGIT, _CAPTION_SPACE = 12.0, 4.6, 12.0
"""Of the paragraphs above and below; running text is mostly of letters that are narrower than digits."""

_BOLD = 1.16


class Size(NamedTuple):
    """A size of type: its command; in points its lines, its digits, those of indices, and the space beside a column."""

    command: str
    line: float
    digit: float
    small_digit: float
    space: float


SIZES = (
    Size(r"\small", 11, 4.63, 3.67, 6),
    Size(r"\small", 11, 4.63, 3.67, 4),
    Size(r"\footnotesize", 9.5, 4.25, 3.67, 4),
    Size(r"\footnotesize", 9.5, 4.25, 3.67, 3),
    Size(r"\scriptsize", 8, 3.99, 3.4, 3),
    Size(r"\scriptsize", 8, 3.99, 3.4, 2),
)
"""The sizes that a table is tried in, in this order."""

SCALED = SIZES[3]
"""The size of a table that is scaled to the page's width, because none of them fits: small, with legible indices."""


def fitting(table: LaidOut, caption: str, notes: Sequence[str]) -> Size | None:
    """The largest size in which a table fits the page, or at least its width if it is too high in all; else None."""
    narrow = [size for size in SIZES if _width(table, size) <= TEXT_WIDTH]
    around = _height_around(caption, notes)
    low = [size for size in narrow if _height(table, size) + around <= TEXT_HEIGHT]
    return next(iter(low or narrow), None)


def _height(table: LaidOut, size: Size) -> float:
    titles = sum(block.title is not None for block in table.blocks)
    lines = len(table.header) + titles + sum(1 for _ in table.lines())
    height = lines * size.line * (STRETCH if table.intervals else 1)
    return height + (len(table.blocks) + len(table.header)) * _RULE + titles * _TITLE_SPACE


def _height_around(caption: str, notes: Sequence[str]) -> float:
    def lines(text: str, digit: float) -> int:
        return math.ceil(_digits(text) * digit / TEXT_WIDTH)

    above = lines(f"Table 00: {caption}", _CAPTION_DIGIT) * _CAPTION_LINE + _CAPTION_SPACE
    return above + sum(lines(note, _NOTE_DIGIT) * _NOTE_LINE + _NOTE_SPACE for note in notes)


def _width(table: LaidOut, size: Size) -> float:
    titles = [_digits(title.text) * size.digit for title in table.header[-1]]
    shown = [
        [_digits(line.title.text) * size.digit, *(_cell_width(cell, size) for cell in line.cells)]
        for line in table.lines()
    ]
    between = 2 * size.space * (table.columns - 1)
    widths: list[float] = [max(column) for column in zip(titles, *shown, strict=True)]
    return between + sum(widths)


def _cell_width(figures: ShownCell, size: Size) -> float:
    width = size.digit * max(0, len(figures) - 1)
    for figure in figures:
        width += _digits(figure.text) * size.digit * (_BOLD if figure.mark == "best" else 1)
        width += max(map(_digits, figure.bounds)) * size.small_digit if figure.bounds else 0
    return width


def _digits(text: str) -> float:
    """How wide a text is, in digits of its type: capitals are wider, marks and some letters are half as wide."""
    return sum(1.45 if one.isupper() else 0.58 if one in " .,:;'|!il" else 1.67 if one in "m%" else 1 for one in text)
