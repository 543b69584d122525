"""figure-gradients: gradients of a layer's norms while models are tuned (paper sec. 5.3; Figures 4, A3, A4).

The inputs are selections, whose chosen run's metrics log holds what was recorded at each step; of several seeds the
first's. The paper speaks of a "gradient variance" and of "more concentrated" gradients, and defines neither. What is
computed here is the variance over all elements of all steps together.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from lntune.config import Frozen
from lntune.config.training import Norm
from lntune.errors import UserError
from lntune.report.cells import NO_SCORE
from lntune.report.figure import SMALLEST, look, panels, write_figure, written
from lntune.report.rows import ShownItemSettings
from lntune.stages.select import CHOSEN
from lntune.store.job import Job, Metrics, NoExecution
from lntune.training.endings import describe, read_endings
from lntune.training.norm_gradients import KEY, recorded_name

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PACKAGES = ("matplotlib", "numpy")

EXTREMES = "smallest to largest element"

_EXTREMES, _DEVIATION, _MEAN = "#c6dff0", "#5aa5d6", "#00283f"
"""One blue in three shades, which stay three shades of grey in print."""

_FEW = 10
"""Steps: fewer are marked, since one alone makes no line."""


class ShownNorm(Frozen):
    """A norm of the ``layer``-th layer ``of`` so many."""

    norm: Norm
    layer: int
    of: int


class Settings(ShownItemSettings):
    """What all tables and figures say, and which norms are shown."""

    norms: tuple[ShownNorm, ...] = Field(strict=False)


Execution = NoExecution


class Series(NamedTuple):
    """One panel: a norm's gradient over one tuning, as :func:`read_norm_gradients` has it; if it diverged, no steps."""

    method: str
    norm: Norm
    steps: Sequence[int]
    recorded: "NDArray[np.float64]"

    @property
    def deviation(self) -> "NDArray[np.float64]":
        """The standard deviation over the elements, at each step."""
        import numpy as np

        return np.sqrt(self.recorded[:, 1])


class Gradients(NamedTuple):
    """What the figure shows: the model, as tables call it; which layer, from 1; every method's series of each norm."""

    model: str
    layer: int
    series: Sequence[Series]


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    import numpy as np

    settings = job.settings
    model, first = settings.rows[0].group, settings.norms[0]
    assert all(row.group == model for row in settings.rows), "one LLM, as the config is checked for"
    assert all((norm.layer, norm.of) == (first.layer, first.of) for norm in settings.norms), "and one layer"
    chosen = {row: job.folders("selections")[row.selections[0]] / CHOSEN for row in settings.rows}
    diverged = {row: runs for row, folder in chosen.items() if (runs := read_endings(folder))}
    logs = {row: folder / "metrics.jsonl" for row, folder in chosen.items() if row not in diverged}
    layer = layer_at(first.layer, first.of, recorded_layers(next(iter(logs.values()))) if logs else first.of)
    series = [
        Series(row.title, norm.norm, *read_norm_gradients(logs[row], layer, norm.norm))
        if row in logs
        else Series(row.title, norm.norm, (), np.empty((0, 4)))
        for norm in settings.norms
        for row in settings.rows
    ]
    data = Gradients(model, layer, series)
    missing = [f"{row.name} has no gradients: training {describe(runs)}." for row, runs in diverged.items()]
    no_cells = [() for _ in settings.rows]
    write_figure(job.out, settings, draw_gradients(data), CSV_HEADER, csv_rows(data), no_cells, missing)
    its = [one for one in series if one.steps]
    return {"layer": layer, **{f"variance_{one.method}_{one.norm}": pooled_variance(one.recorded) for one in its}}


CSV_HEADER = (
    "model", "method", "layer", "norm", "step", "mean", "standard_deviation", "minimum", "maximum", "variance",
)  # fmt: skip


def csv_rows(data: Gradients) -> list[tuple[object, ...]]:
    """A line for each norm, method and step; ``variance`` is that of the whole run."""
    rows: list[tuple[object, ...]] = []
    for one in (one for one in data.series if one.steps):
        means, _, minima, maxima = one.recorded.T
        variance = written(pooled_variance(one.recorded))
        for step, *values in zip(one.steps, means, one.deviation, minima, maxima, strict=True):
            rows.append((data.model, one.method, data.layer, one.norm, step, *map(written, values), variance))
    return rows


def draw_gradients(data: Gradients) -> "Figure":
    """Draw a row a norm and a column a method, each row on one vertical axis: mean, deviation and extremes a step.

    Few steps have extremes far beyond all others', and an axis that holds these shows nothing else. So it holds every
    step's mean and deviation and the extremes of 95% of the steps; the legend says if something is cut off.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator

    columns = len(data.series) // len({one.norm for one in data.series})
    wide, steps = columns > 1, sorted({step for one in data.series for step in one.steps})
    with look():
        figure, axes = panels(
            len(data.series), across=columns, above=0.65 if wide else 1.1, height=1.55, sharex=True, sharey="row"
        )
        for panel, one in zip(axes, data.series, strict=True):
            _panel(panel, one)
        rows = range(0, len(data.series), columns)
        cut = [_vertical(axes[first], data.series[first : first + columns]) for first in rows]
        for panel in axes[-columns:]:
            panel.set_xlabel("training step")
            locator = MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10])
            panel.xaxis.set_major_locator(FixedLocator(steps) if len(steps) < _FEW else locator)
        shown = next((panel for panel, one in zip(axes, data.series, strict=True) if one.steps), axes[0])
        handles, labels = shown.get_legend_handles_labels()
        if any(cut):
            labels = [f"{label} (cut off)" if label == EXTREMES else label for label in labels]
        figure.legend(
            handles, labels, loc="outside upper center", ncols=3 if wide else 1, columnspacing=1.5,
            title=f"LayerNorm gradients in layer {data.layer}{' ' if wide else chr(10)}of {data.model}",
        )  # fmt: skip
    return figure


def _panel(axes: "Axes", one: Series) -> None:
    if not one.steps:
        axes.set_title(f"{one.method}, {one.norm} norm\ndiverged", fontsize=SMALLEST)
        axes.text(0.5, 0.5, NO_SCORE, transform=axes.transAxes, fontsize=12)
        return
    means, _, minima, maxima = one.recorded.T
    few = len(one.steps) < _FEW
    axes.fill_between(one.steps, minima, maxima, color=_EXTREMES, linewidth=0.4, label=EXTREMES)
    axes.fill_between(
        one.steps, means - one.deviation, means + one.deviation, color=_DEVIATION, linewidth=0.4,
        label="mean ± standard deviation",
    )  # fmt: skip
    axes.plot(one.steps, means, color=_MEAN, linewidth=0.7, marker="o" if few else None, markersize=3, label="mean")
    variance = scientific(pooled_variance(one.recorded))
    axes.set_title(f"{one.method}, {one.norm} norm\nvariance {variance}", fontsize=SMALLEST)
    axes.margins(x=0.05 if few else 0.01)
    axes.grid(True)


def _vertical(axes: "Axes", series: Sequence[Series]) -> bool:
    """Set the axis of a row of panels, in units of a power of ten; True if extremes lie outside of it."""
    import numpy as np
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if not any(one.steps for one in series):
        axes.set_yticks([])  # nothing stands on such a scale
        return False
    means, variances, minima, maxima = np.concatenate([one.recorded for one in series]).T
    deviations = np.sqrt(variances)
    lowest, highest = sorted(minima.tolist()), sorted(maxima.tolist())
    kept = math.ceil(0.95 * len(lowest))
    low = min(0.0, float((means - deviations).min()), lowest[-kept])
    high = max(0.0, float((means + deviations).max()), highest[kept - 1])
    room = 0.05 * (high - low) or 1.0
    low, high = low - room, high + room
    exponent = math.floor(math.log10(max(-low, high)))
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**exponent:g}".replace("-", "−")))
    axes.set_ylabel("gradient" if exponent == 0 else f"gradient ({_power_of_ten(exponent)})")
    return bool(lowest[0] < low or highest[-1] > high)


def _power_of_ten(exponent: int) -> str:
    """10 to the exponent, in letters that every format can hold and search."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def scientific(value: float) -> str:
    """A number with two digits and a power of ten."""
    if value == 0:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}×{_power_of_ten(int(exponent))}"


def read_norm_gradients(metrics: Path, layer: int, norm: Norm) -> "tuple[tuple[int, ...], NDArray[np.float64]]":
    """What a finetune's metrics.jsonl recorded of a norm of the ``layer``-th decoder layer, counted from 1.

    Returns the steps, from 1, and (steps, 4): of each step's gradient, before clipping, the mean, population variance,
    minimum and maximum over its elements. UserError if the method trains no norms.
    """
    import numpy as np

    logged = _recorded(metrics)
    values = [recorded[recorded_name(layer, norm)] for _, recorded in logged]
    return tuple(step for step, _ in logged), np.array(values, dtype=np.float64)


def recorded_layers(metrics: Path) -> int:
    """The number of decoder layers whose norms a finetune's metrics.jsonl recorded; UserError if there are none."""
    return len({name.partition(".")[0] for name in _recorded(metrics)[0][1]})


def layer_at(number: int, of: int, layers: int) -> int:
    """The layer of a model with ``layers`` layers that lies as deep as the ``number``-th of ``of``; all count from 1.

    It is the layer that holds the middle of that one, if both models are drawn equally high; where the middle lies
    between two layers, the deeper one. The paper's 11th and 21st layer of 32 are the 2nd and 3rd of 4. UserError if
    there is no such layer.
    """
    if not (1 <= number <= of and layers >= 1):
        raise UserError(f"there is no layer {number} of {of}, or none in a model of {layers}; layers count from 1")
    return (2 * number - 1) * layers // (2 * of) + 1


def pooled_variance(recorded: "NDArray[np.float64]") -> float:
    """The variance over all elements of all steps, of :func:`read_norm_gradients`'s numbers (steps, 4)."""
    # The steps' mean variance, and the variance of their means: exact, since all steps have as many elements.
    return float(recorded[:, 1].mean() + recorded[:, 0].var())


def _recorded(metrics: Path) -> list[tuple[int, Mapping[str, Sequence[float]]]]:
    """The step and what was recorded of norms, line by line."""
    records = list(map(json.loads, metrics.read_text(encoding="utf-8").splitlines()))
    if not all(KEY in record for record in records):
        raise UserError(f"{metrics}: no gradients of norms; show a row whose method trains norms, such as layernorm")
    return [(record["step"], record[KEY]) for record in records]
