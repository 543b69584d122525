"""figure-heat-maps: how alike a model's layers are, a panel for each row (Figures 3, A1, A2).

Of several seeds the maps are those of the first.
"""

import json
import math
from collections.abc import Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING, NamedTuple

from lntune.report.figure import look, panels, write_figure, written
from lntune.report.rows import Row, ShownItemSettings, cells_of
from lntune.store.job import Job, Metrics, NoExecution
from lntune.training.endings import read_endings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PACKAGES = ("matplotlib", "numpy")

_WRITTEN_UP_TO = 6
"""Layers: in maps of no more the values are written into the cells, which larger maps have no room for."""

Settings = ShownItemSettings
Execution = NoExecution


class LayerSimilarity(NamedTuple):
    """One panel: method, cosine similarities of layers by layers (-1 to 1; NaN if training diverged), their mean."""

    method: str
    similarity: Sequence[Sequence[float]]
    mean: float


class HeatMaps(NamedTuple):
    """What the figure shows: the model, as tables call it, and the panels, from (a) on."""

    model: str
    maps: Sequence[LayerSimilarity]


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    settings = job.settings
    model = settings.rows[0].group
    assert all(row.group == model for row in settings.rows), "one LLM, as the config is checked for"
    data = HeatMaps(model, [_map(job, row) for row in settings.rows])
    cells = cells_of(settings, job.folders("scores"))
    write_figure(job.out, settings, draw_heat_maps(data), CSV_HEADER, csv_rows(data), cells)
    return {"maps": len(data.maps)}


def _map(job: Job[Settings, NoExecution], row: Row) -> LayerSimilarity:
    tokens = job.settings.tokens
    assert tokens is not None
    folder = job.folders("scores")[row.scores[0][0]]
    if read_endings(folder):
        return LayerSimilarity(row.title, [[math.nan]], math.nan)
    found = json.loads((folder / "similarity.json").read_bytes())["tokens"][tokens]
    return LayerSimilarity(row.title, found["matrix"], found["mean"])


CSV_HEADER = ("model", "method", "layer", "other_layer", "similarity")


def csv_rows(data: HeatMaps) -> list[tuple[object, ...]]:
    """A line for each method and pair of layers, both ways round; layers count from 1."""
    return [
        (data.model, one.method, layer, other, written(value))
        for one in data.maps
        for layer, row in enumerate(one.similarity, 1)
        for other, value in enumerate(row, 1)
    ]


def draw_heat_maps(data: HeatMaps) -> "Figure":
    """Draw a panel a method, all on one colour scale: 0 to 1, and from below 0 only where a similarity is."""
    columns = min(len(data.maps), 2)
    lowest = math.floor(10 * min(0.0, *(value for one in data.maps for row in one.similarity for value in row))) / 10
    with look():
        figure, axes = panels(len(data.maps), across=columns, above=0.15, height=2.5, squares=True)
        for place, (panel, one) in enumerate(zip(axes, data.maps, strict=True)):
            image = _panel(panel, one, lowest)
            panel.set_title(f"({ascii_lowercase[place]}) {one.method}\nmean similarity {written(one.mean, '.3f')}")
            panel.set_xlabel(f"layer of {data.model}")
            if place % columns == 0:
                panel.set_ylabel(f"layer of {data.model}")
        bar = figure.colorbar(image, ax=axes, label="cosine similarity", pad=0.02)
        bar.outline.set_linewidth(0.6)
    return figure


def _panel(axes: "Axes", one: LayerSimilarity, lowest: float) -> "AxesImage":
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
                axes.text(x, y, written(value, ".2f").replace("-", "−"), ha="center", va="center", color=_ink(shade))
    return image


def _ticks(layers: int) -> list[int]:
    """The first layer, and at most eight more at even steps."""
    step = next(step for step in (1, 2, 4, 5, 8, 10, 20, 50, 100) if layers / step <= 8)
    return sorted({1, *range(step, layers + 1, step)})


def _ink(shade: float) -> str:
    """Black or white, whichever stands out from the map's colour at this place (0 to 1)."""
    from matplotlib import colormaps

    red, green, blue, _ = colormaps["viridis"](shade)
    return (
        "black" if math.isnan(shade) or 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.18 else "white"
    )
