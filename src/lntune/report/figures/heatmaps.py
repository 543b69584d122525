"""Figures 3, A1 and A2: how alike the layers of a model are, after full finetuning and after LayerNorm tuning."""

import math
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from lntune.report.figures.style import TEXT_WIDTH, add_note, look, panels, write_rows, written

_WRITTEN_UP_TO = 6
"""Layers: in maps of no more the values are written into the cells, which larger maps have no room for."""


@dataclass(frozen=True)
class LayerSimilarity:
    """One panel.

    Attributes:
        method: as tables call it.
        title: of the panel ("Finetuned").
        similarity: cosine similarities, layers by layers, -1 to 1.
        mean: the model's mean similarity, as it is reported.
    """

    method: str
    title: str
    similarity: tuple[tuple[float, ...], ...]
    mean: float

    def __post_init__(self) -> None:
        """Hold that it is a square."""
        assert self.similarity and all(len(row) == len(self.similarity) for row in self.similarity)


@dataclass(frozen=True)
class HeatMaps:
    """What the figure shows.

    Attributes:
        model: as tables call it.
        maps: the panels, from (a) on.
        scale: at which the figure was made ("demo").
        note: what to know about that scale.
    """

    model: str
    maps: tuple[LayerSimilarity, ...]
    scale: str
    note: str = ""

    def __post_init__(self) -> None:
        """Hold that there are panels."""
        assert self.maps


def write_csv(data: HeatMaps, path: Path) -> None:
    """Write a line for each method and pair of layers, both ways round; layers count from 1."""
    write_rows(
        path,
        ("model", "method", "layer", "other_layer", "similarity", "scale"),
        (
            (data.model, one.method, layer, other, written(value), data.scale)
            for one in data.maps
            for layer, row in enumerate(one.similarity, 1)
            for other, value in enumerate(row, 1)
        ),
    )


def draw_heat_maps(data: HeatMaps) -> Figure:
    """Draw a panel a method, all on one colour scale: 0 to 1, and from below 0 only where a similarity is."""
    columns = min(len(data.maps), 2)
    rows = math.ceil(len(data.maps) / columns)
    lowest = math.floor(10 * min(0.0, *(value for one in data.maps for row in one.similarity for value in row))) / 10
    width = TEXT_WIDTH if columns > 1 else 0.6 * TEXT_WIDTH
    with look():
        figure, axes = panels(rows=rows, columns=columns, height=0.15 + 2.5 * rows, width=width, squares=True)
        flat = [one for row in axes for one in row]
        for panel in flat[len(data.maps) :]:
            panel.set_visible(False)
        for place, (panel, one) in enumerate(zip(flat, data.maps, strict=False)):
            image = _panel(panel, one, lowest)
            panel.set_title(f"({ascii_lowercase[place]}) {one.title}\nmean similarity {one.mean:.3f}")
            panel.set_xlabel(f"layer of {data.model}")
            if place % columns == 0:
                panel.set_ylabel(f"layer of {data.model}")
        bar = figure.colorbar(image, ax=flat[: len(data.maps)], label="cosine similarity", pad=0.02)
        bar.outline.set_linewidth(0.6)
        add_note(figure, data.scale, data.note)
    return figure


def _panel(axes: Axes, one: LayerSimilarity, lowest: float) -> AxesImage:
    layers = len(one.similarity)
    edges = (0.5, layers + 0.5, 0.5, layers + 0.5)
    image = axes.imshow(
        one.similarity, vmin=lowest, vmax=1.0, origin="lower", extent=edges, interpolation="nearest"
    )  # fmt: skip
    ticks = _ticks(layers)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.spines[:].set_visible(False)
    if layers <= _WRITTEN_UP_TO:
        for y, row in enumerate(one.similarity, 1):
            for x, value in enumerate(row, 1):
                shade = (value - lowest) / (1 - lowest)
                axes.text(x, y, f"{value:.2f}".replace("-", "−"), ha="center", va="center", color=_ink(shade))
    return image


def _ticks(layers: int) -> list[int]:
    """The first layer, and at most eight more at even steps."""
    step = next(step for step in (1, 2, 4, 5, 8, 10, 20, 50, 100) if layers / step <= 8)
    return sorted({1, *range(step, layers + 1, step)})


def _ink(shade: float) -> str:
    """Black or white, whichever stands out from the map's colour at this place (0 to 1)."""
    red, green, blue, _ = colormaps["viridis"](shade)
    return "black" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18 else "white"
