"""Figures 4, A3 and A4: the gradients of a layer's LayerNorm weights while the model is tuned."""

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator

from lntune.report.figures.style import (
    SMALLEST,
    TEXT_WIDTH,
    add_note,
    look,
    panels,
    power_of_ten,
    scientific,
    write_rows,
    written,
)

EXTREMES = "smallest to largest element"

_EXTREMES, _DEVIATION, _MEAN = "#c6dff0", "#5aa5d6", "#00283f"
"""One blue in three shades, which stay three shades of grey in print."""

_FEW = 10
"""Steps: fewer are marked, since one alone makes no line."""


@dataclass(frozen=True)
class NormGradients:
    """The gradient of one norm's weight vector over the steps of one tuning: one panel.

    Attributes:
        method: as tables call it.
        norm: which of the layer's norms ("input", "post").
        steps: optimizer steps, from 1, rising.
        mean: at each step, over the elements of the gradient.
        deviation: the standard deviation over the elements, at each step.
        lowest: the smallest element at each step.
        highest: the largest element at each step.
        variance: of the whole run, as it is reported.
    """

    method: str
    norm: str
    steps: tuple[int, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    variance: float

    def __post_init__(self) -> None:
        """Hold that there is a value of each kind for every step."""
        assert self.steps
        assert {len(self.steps)} == {len(of) for of in (self.mean, self.deviation, self.lowest, self.highest)}


@dataclass(frozen=True)
class Gradients:
    """What the figure shows.

    Attributes:
        model: as tables call it.
        layer: which, from 1.
        series: one for each norm and method; both are shown in the order in which they come.
        scale: at which the figure was made ("demo").
        note: what to know about that scale.
    """

    model: str
    layer: int
    series: tuple[NormGradients, ...]
    scale: str
    note: str = ""

    def __post_init__(self) -> None:
        """Hold that each norm was recorded under each method."""
        pairs = {(one.norm, one.method) for one in self.series}
        assert len(pairs) == len(self.series) == len(self.norms) * len(self.methods) > 0

    @property
    def norms(self) -> tuple[str, ...]:
        """The rows of panels."""
        return tuple(dict.fromkeys(one.norm for one in self.series))

    @property
    def methods(self) -> tuple[str, ...]:
        """The columns of panels."""
        return tuple(dict.fromkeys(one.method for one in self.series))


def write_csv(data: Gradients, path: Path) -> None:
    """Write a line for each norm, method and step; ``variance`` is that of the whole run."""
    write_rows(
        path,
        (
            "model", "method", "layer", "norm", "step", "mean", "standard_deviation", "minimum", "maximum", "variance",
            "scale",
        ),
        (
            (
                data.model, one.method, data.layer, one.norm, step, *(written(value) for value in values),
                written(one.variance), data.scale,
            )
            for one in data.series
            for step, *values in zip(one.steps, one.mean, one.deviation, one.lowest, one.highest, strict=True)
        ),
    )  # fmt: skip


def draw_gradients(data: Gradients) -> Figure:
    """Draw a row a norm and a column a method, each row on one vertical axis: mean, deviation and extremes a step.

    Few steps have extremes far beyond all others', and an axis that holds these shows nothing else. So it holds every
    step's mean and deviation and the extremes of 95% of the steps; the legend says if something is cut off.
    """
    rows, columns = len(data.norms), len(data.methods)
    wide = columns > 1
    with look():
        figure, axes = panels(
            rows=rows, columns=columns, height=(0.65 if wide else 1.1) + 1.55 * rows,
            width=TEXT_WIDTH if wide else 0.6 * TEXT_WIDTH, sharex=True, sharey="row",
        )  # fmt: skip
        for one in data.series:
            _panel(axes[data.norms.index(one.norm)][data.methods.index(one.method)], one)
        cut = [
            _vertical(row[0], [one for one in data.series if one.norm == norm])
            for row, norm in zip(axes, data.norms, strict=True)
        ]
        for panel in axes[-1]:
            panel.set_xlabel("training step")
            panel.xaxis.set_major_locator(_step_locator(data))
        _legend(figure, axes[0][0], data, wide=wide, cut=any(cut))
        add_note(figure, data.scale, data.note)
    return figure


def _step_locator(data: Gradients) -> Locator:
    steps = sorted({step for one in data.series for step in one.steps})
    return FixedLocator(steps) if len(steps) < _FEW else MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10])


def _panel(axes: Axes, one: NormGradients) -> None:
    lower, upper = zip(*_bands(one), strict=True)
    few = len(one.steps) < _FEW
    axes.fill_between(one.steps, one.lowest, one.highest, color=_EXTREMES, linewidth=0.4, label=EXTREMES)
    axes.fill_between(one.steps, lower, upper, color=_DEVIATION, linewidth=0.4, label="mean ± standard deviation")
    axes.plot(one.steps, one.mean, color=_MEAN, linewidth=0.7, marker="o" if few else None, markersize=3, label="mean")
    axes.set_title(f"{one.method}, {one.norm} norm\nvariance {scientific(one.variance)}", fontsize=SMALLEST)
    axes.margins(x=0.05 if few else 0.01)
    axes.grid(True)


def _bands(one: NormGradients) -> list[tuple[float, float]]:
    return [(mean - spread, mean + spread) for mean, spread in zip(one.mean, one.deviation, strict=True)]


def _vertical(axes: Axes, series: list[NormGradients]) -> bool:
    """Set the axis of a row of panels, in units of a power of ten; True if extremes lie outside of it."""
    bands = [bound for one in series for band in _bands(one) for bound in band]
    lowest = sorted(value for one in series for value in one.lowest)
    highest = sorted(value for one in series for value in one.highest)
    kept = math.ceil(0.95 * len(lowest))
    low = min(0.0, *bands, lowest[-kept])
    high = max(0.0, *bands, highest[kept - 1])
    room = 0.05 * (high - low) or 1.0
    low, high = low - room, high + room
    exponent = math.floor(math.log10(max(-low, high)))
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**exponent:g}".replace("-", "−")))
    axes.set_ylabel("gradient" if exponent == 0 else f"gradient ({power_of_ten(exponent)})")
    return lowest[0] < low or highest[-1] > high


def _legend(figure: Figure, panel: Axes, data: Gradients, *, wide: bool, cut: bool) -> None:
    handles, labels = panel.get_legend_handles_labels()
    if cut:
        labels = [f"{label} (cut off)" if label == EXTREMES else label for label in labels]
    figure.legend(
        handles, labels, loc="outside upper center", ncols=3 if wide else 1, columnspacing=1.5,
        title=f"LayerNorm gradients in layer {data.layer}{' ' if wide else chr(10)}of {data.model}",
    )  # fmt: skip
