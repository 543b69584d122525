"""One look for all figures: fonts, sizes, colours, and files whose bytes depend on nothing but what is drawn.

    with look():
        figure, axes = panels(rows=1, columns=2, height=2.4)
        ...
        add_note(figure, "demo", "tiny models")
    save(figure, folder, "figure2")

Sizes are those of print: a figure is as wide as the paper's text and is set without scaling, so that a size in points
is the size on paper. Nothing here touches pyplot, and matplotlib's settings are as before when ``look`` ends.

The CSV of what a figure shows.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from lntune.errors import UserError

TEXT_WIDTH = 5.5
"""Inches: the width of the text on the paper's pages (the ICLR style)."""

SMALLEST = 7.0
"""Points: no text is smaller."""

LARGER = 8.0
"""Points: titles of panels and axes."""

DPI = {"pdf": 600, "svg": 600, "png": 300}
"""Dots per inch of each format; in PDF and SVG of the images inside (heat maps), the rest has no dots."""

NOTE_COLOUR = "#444444"

_SETTINGS: dict[str, Any] = {
    # Matplotlib brings DejaVu along, so letters are the same on every machine.
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": SMALLEST,
    "axes.titlesize": LARGER,
    "axes.labelsize": LARGER,
    "figure.titlesize": LARGER,
    "figure.labelsize": LARGER,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
    "legend.fontsize": SMALLEST,
    "legend.title_fontsize": LARGER,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "hatch.linewidth": 0.6,
    "image.cmap": "viridis",
    # TrueType in the PDF, so that text can be searched and journals take it. In SVG outlines: a viewer that lacks the
    # font would set the text in another, wider one. Matplotlib keeps the words as comments next to them.
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "lntune",
}  # fmt: skip


@dataclass(frozen=True)
class Category:
    """How one of several things differs from the others: by colour, and without colour by marker or hatch."""

    colour: str
    marker: str
    hatch: str


# The palette of Okabe and Ito, which stays distinct under the common kinds of colour blindness.
_CATEGORIES = (
    Category("#0072B2", "o", ""),
    Category("#E69F00", "s", "////"),
    Category("#009E73", "^", "...."),
    Category("#CC79A7", "v", "xxxx"),
    Category("#D55E00", "D", "\\\\\\\\"),
    Category("#000000", "P", ""),
    Category("#56B4E9", "X", "++++"),
    Category("#F0E442", "p", "----"),
)


def categories(names: Sequence[str]) -> dict[str, Category]:
    """A look for each name, in this order.

    Raises:
        UserError: there are more names than a reader can tell apart.
    """
    if len(names) > len(_CATEGORIES):
        raise UserError(
            f"a figure can tell {len(_CATEGORIES)} things apart, and is given {len(names)} "
            f"({', '.join(names)}): leave some out of it"
        )
    return dict(zip(names, _CATEGORIES, strict=False))


@contextmanager
def look() -> Iterator[None]:
    """The settings of all figures, whatever the user's matplotlibrc says; those before come back at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, _SETTINGS))
        yield


def panels(
    *, rows: int, columns: int, height: float, width: float = TEXT_WIDTH, squares: bool = False, **shared: Any
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows and columns of panels that make room for each other's labels.

    Args:
        rows: of panels.
        columns: of panels.
        height: of the figure, in inches.
        width: of the figure, in inches.
        squares: the panels have an aspect of their own, and stand close.
        shared: ``sharex`` and ``sharey``, as matplotlib's ``Figure.subplots`` takes them.
    """
    figure = Figure(figsize=(width, height), layout="compressed" if squares else "constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    return figure, [list(row) for row in axes]


def broken(text: str, inches: float) -> list[str]:
    """Text of the smallest size in lines of at most this width, broken at spaces and after hyphens and nowhere else."""
    lines = [""]
    for piece in text.replace("-", "-\0").replace(" ", " \0").split("\0"):
        if lines[-1] and _width((lines[-1] + piece).rstrip()) > inches:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _width(text: str) -> float:
    font = FontProperties(family="DejaVu Sans", size=SMALLEST)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def add_note(figure: Figure, scale: str, note: str) -> None:
    """Write at which scale the figure was made under it, and keep the panels clear of that."""
    width, height = figure.get_size_inches()
    lines = broken(f"Scale: {scale}. {note}" if note else f"Scale: {scale}.", width - 0.1)
    room = (1.25 * SMALLEST * len(lines) + 4) / 72 / height
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, room, 1, 1 - room))  # type: ignore[call-arg]
    place = {"x": 0.05 / width, "y": 0.03 / height}
    figure.text(**place, s="\n".join(lines), fontsize=SMALLEST, color=NOTE_COLOUR, va="bottom", ha="left")


def save(figure: Figure, folder: Path, name: str, title: str = "") -> tuple[Path, ...]:
    """Write NAME.pdf, NAME.svg and NAME.png, of the same bytes whenever the same is drawn.

    Args:
        figure: what is written.
        folder: where to; it is there.
        name: of the files, without a suffix.
        title: what the files call themselves in their metadata, for those who cannot see them.

    Returns:
        The files.
    """
    # None leaves out times and versions.
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Title": title or name, "Creator": None, "Producer": None, "CreationDate": None},
        "svg": {"Title": title or name, "Creator": None, "Date": None},
        "png": {"Title": title or name, "Software": None},
    }
    files = []
    with look():
        for suffix, its in metadata.items():
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, format=suffix, dpi=DPI[suffix], metadata=its, facecolor="white")
            files.append(path)
    return tuple(files)


def written(value: float) -> str:
    """A number as the CSV of a figure gives it: more digits than an eye can see."""
    return f"{value:.6g}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(exponent: int) -> str:
    """10 to the exponent, in letters that every format can hold and search."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def scientific(value: float) -> str:
    """A number with two digits and a power of ten."""
    if value == 0:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}×{power_of_ten(int(exponent))}"


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows, as all CSV files here are written."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
