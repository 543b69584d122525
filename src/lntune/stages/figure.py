"""What all stages that draw a figure write."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lntune.report.cells import Cell
from lntune.report.rows import ShownItemSettings, write_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = TypeVar("Data")


def write_figure(
    out: Path,
    settings: ShownItemSettings,
    data: Data,
    draw: Callable[[Data], "Figure"],
    write_csv: Callable[[Data, Path], None],
    cells: Sequence[Sequence[Cell]],
) -> None:
    """Write NAME.pdf, NAME.svg and NAME.png, NAME.csv with what is drawn, and cells.json."""
    from lntune.report.figures.style import save

    save(draw(data), out, settings.name, settings.title)
    write_csv(data, out / f"{settings.name}.csv")
    write_cells(out, settings, cells)
