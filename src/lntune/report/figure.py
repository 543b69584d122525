"""One look for all figures: fonts, sizes, colours, and files whose bytes depend on nothing but what is drawn.

    with look():
        figure, axes = panels(2, across=2, above=0.5, height=1.9)
        ...
    write_figure(folder, settings, figure, header, rows, cells)

Sizes are those of print. Nothing here touches pyplot, and matplotlib's settings are as before when ``look`` ends.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lntune.errors import UserError
from lntune.report.cells import NO_SCORE, Cell
from lntune.report.published import write_csv
from lntune.report.rows import ShownItemSettings, scale_note, without_model, write_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT_WIDTH = 5.5
"""Inches: the width of the text on the paper's pages (the ICLR style)."""

SMALLEST = 7.0
"""Points: no text is smaller."""

LARGER = 8.0
"""Points: titles of panels and axes."""

DPI = {"pdf": 600, "svg": 600, "png": 300}
"""Dots per inch of each format; in PDF and SVG of the images inside (heat maps), the rest has no dots."""

FONT = "DejaVu Sans of Matplotlib"
"""The font that comes with Matplotlib, under a name of our own: a system may have another version of it."""

_SETTINGS: dict[str, Any] = {
    "font.family": FONT,
    "text.parse_math": False,
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
    """A look for each name, in this order; UserError if there are more names than a reader can tell apart."""
    if len(names) > len(_CATEGORIES):
        raise UserError(
            f"a figure can tell {len(_CATEGORIES)} things apart, and is given {len(names)} "
            f"({', '.join(names)}): leave some out of it"
        )
    return dict(zip(names, _CATEGORIES, strict=False))


@contextmanager
def look() -> Iterator[None]:
    """The settings of all figures, whatever the user's matplotlibrc says; those before come back at the end."""
    import matplotlib

    _add_font()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, _SETTINGS))
        yield


@cache
def _add_font() -> None:
    """Make FONT known, in all its styles."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuSans*.ttf")):
        fontManager.addfont(path)
        if fontManager.ttflist[-1].name == "DejaVu Sans":
            fontManager.ttflist.append(replace(fontManager.ttflist[-1], name=FONT))


def panels(
    count: int,
    *,
    across: int,
    above: float,
    height: float,
    width: float | None = None,
    squares: bool = False,
    **shared: Any,
) -> "tuple[Figure, list[Axes]]":
    """A figure of ``count`` panels, ``across`` in a row, that make room for each other's labels.

    In inches: what the figure is higher than its panels; the height of a row of panels; the figure's width (None: the
    text's, and less of a single panel). ``squares``: the panels have an aspect of their own, and stand close;
    ``shared``: ``sharex`` and ``sharey``, as matplotlib's ``Figure.subplots`` takes them.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(count / across)
    width = width or (TEXT_WIDTH if across > 1 else 0.6 * TEXT_WIDTH)
    figure = Figure(figsize=(width, above + rows * height), layout="compressed" if squares else "constrained")
    axes = list(figure.subplots(rows, across, squeeze=False, **shared).flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def broken(text: str, inches: float) -> list[str]:
    """Text of the smallest size in lines of at most this width, broken at spaces and after hyphens and nowhere else."""
    lines = [""]
    for piece in text.replace("-", "-\0").replace(" ", " \0").split("\0"):
        if lines[-1] and _width((lines[-1] + piece).rstrip()) > inches:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _width(text: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    _add_font()
    font = FontProperties(family=FONT, size=SMALLEST)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def add_note(figure: "Figure", scale: str, note: str) -> None:
    """Write at which scale the figure was made under it, and keep the panels clear of that."""
    width, height = figure.get_size_inches()
    lines = broken(f"Scale: {scale}. {note}", width - 0.1)
    room = (1.25 * SMALLEST * len(lines) + 4) / 72 / height
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, room, 1, 1 - room))  # type: ignore[call-arg]
    place = {"x": 0.05 / width, "y": 0.03 / height}
    figure.text(**place, s="\n".join(lines), fontsize=SMALLEST, color="#444444", va="bottom", ha="left")


def _place(figure: "Figure") -> None:
    """Lay the panels out for all formats; the last bits of what the solver finds differ from process to process."""
    figure.set_dpi(max(DPI.values()))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(float(value), 6) for value in axes.get_position().bounds)
        axes.set_position((left, bottom, width, height))


def save(figure: "Figure", folder: Path, name: str, title: str) -> None:
    """Write NAME.pdf, .svg and .png, of the same bytes whenever the same is drawn; ``title`` is for their metadata."""
    # None leaves out times and versions.
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Title": title, "Creator": None, "Producer": None, "CreationDate": None},
        "svg": {"Title": title, "Creator": None, "Date": None},
        "png": {"Title": title, "Software": None},
    }
    with look():
        _place(figure)
        for suffix, its in metadata.items():
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, format=suffix, dpi=DPI[suffix], metadata=its, facecolor="white")


def written(value: float, digits: str = ".6g") -> str:
    """A number as the CSV of a figure gives it, with more digits than an eye can see; "-" if there is none (NaN)."""
    return NO_SCORE if math.isnan(value) else format(value, digits)


def write_figure(
    out: Path,
    settings: ShownItemSettings,
    figure: "Figure",
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    cells: Sequence[Sequence[Cell]],
    missing: Sequence[str] = (),
) -> None:
    """Write NAME.pdf, NAME.svg and NAME.png, NAME.csv with what is drawn, and cells.json.

    ``figure`` comes without the note under it, on the scale and on what is ``missing`` besides cells; ``header`` and
    ``rows``, the CSV's, without the column of the scale.
    """
    with look():
        add_note(figure, settings.scale, " ".join((scale_note(settings), *missing, *without_model(settings, cells))))
    save(figure, out, settings.name, settings.title)
    lines = [(*header, "scale"), *((*row, settings.scale) for row in rows)]
    write_csv(out / f"{settings.name}.csv", lines)
    write_cells(out, settings, cells)
