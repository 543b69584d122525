"""figure-cost: how many parameters each method trains, against the memory that this takes (Figure 1, right)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lntune.report.cells import Cell, number
from lntune.report.figure import Category, categories, look, panels, write_figure, written
from lntune.report.rows import ShownItemSettings, cells_of
from lntune.store.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PACKAGES = ("matplotlib", "numpy")

OOM = "OOM"


class Settings(ShownItemSettings):
    """What all tables and figures say; the device's memory, in 10**9 bytes, if there is one to fill."""

    capacity_gb: float | None


Execution = NoExecution


class Cost(NamedTuple):
    """One method's cost on one model, an LLM or a scale of LLMs ("7B scale"), both as tables call them.

    What trains is above 0 percent, as the axis is logarithmic; ``memory_gb`` is the peak in 10**9 bytes, None: OOM.
    """

    model: str
    method: str
    trainable_percent: float
    memory_gb: float | None


class Costs(NamedTuple):
    """What the figure shows: a cost for each model and method, in their order; and the vertical axis's title.

    Methods that run out of what a device has (``capacity_gb``; None: not known) are set above this line.
    """

    costs: Sequence[Cost]
    memory: str
    capacity_gb: float | None


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    settings = job.settings
    cells = cells_of(settings, job.folders("scores"))
    data = _costs(settings, cells)
    write_figure(job.out, settings, draw_cost(data), CSV_HEADER, csv_rows(data), cells)
    return {"points": len(data.costs)}


def _costs(settings: Settings, cells: list[list[Cell]]) -> Costs:
    found = []
    for row, (memory, parameters) in zip(settings.rows, cells, strict=True):
        share = number(parameters.text)
        assert share is not None
        found.append(Cost(row.group, row.title, share, number(memory.text)))
    axis = "GPU memory (GB)" if settings.capacity_gb is not None else "memory on the CPU (GB)"
    return Costs(found, axis, settings.capacity_gb)


CSV_HEADER = ("model", "method", "Mem. (GB)", "#param.")


def csv_rows(data: Costs) -> list[tuple[str, ...]]:
    """A line for each model and method, with Table 2's columns."""
    return [
        (model, method, OOM if memory is None else written(memory), f"{written(share)}%")
        for model, method, share, memory in data.costs
    ]


def draw_cost(data: Costs) -> "Figure":
    """Draw a panel a model, a look a method, above the axis what is OOM; UserError if methods are too many."""
    from matplotlib.lines import Line2D

    models = list(dict.fromkeys(one.model for one in data.costs))
    looks = categories(list(dict.fromkeys(one.method for one in data.costs)))
    columns = min(len(models), 3)
    with look():
        figure, axes = panels(len(models), across=columns, above=0.6, height=1.9, sharey=True)
        for place, (panel, model) in enumerate(zip(axes, models, strict=True)):
            panel.set_title(model)
            for one in data.costs:
                if one.model == model:
                    height = sum(_band(data)) / 2 if one.memory_gb is None else one.memory_gb
                    point = panel.plot([one.trainable_percent], [height], clip_on=False, zorder=3)[0]
                    _marker(point, one.method, looks)
            _share_axis(panel, data, most=6 if columns < 3 else 3, named=place + columns >= len(models))
            _memory_axis(panel, data, named=place % columns == 0)
        handles = [_marker(Line2D([], []), name, looks) for name in looks]
        figure.legend(
            handles=handles, loc="outside upper center", ncols=2 if columns == 1 else 3, columnspacing=1.5,
            handletextpad=0.3,
        )  # fmt: skip
    return figure


def _band(data: Costs) -> tuple[float, float]:
    """The vertical axis of all panels, in gigabytes: its edge, and the top of the band above for what is OOM."""
    known = [one.memory_gb for one in data.costs if one.memory_gb is not None]
    highest = 1.1 * max(known, default=0.0) or 1.0
    if len(known) == len(data.costs):
        return highest, highest
    edge = max(data.capacity_gb or 0.0, highest)
    return edge, 1.25 * edge


def _marker(line: "Line2D", method: str, looks: dict[str, Category]) -> "Line2D":
    its = looks[method]
    line.set(label=method, linestyle="none", marker=its.marker, markersize=6, markerfacecolor=its.colour)
    line.set(markeredgecolor="black", markeredgewidth=0.6)
    return line


def _share_axis(axes: "Axes", data: Costs, *, most: int, named: bool) -> None:
    """Powers of ten, at most as many as ``most`` labels."""
    from matplotlib.ticker import NullLocator

    shares = [one.trainable_percent for one in data.costs]
    left, right = min(shares) / 2, max(shares) * 1.6
    powers = range(math.ceil(math.log10(left)), math.floor(math.log10(min(right, 100.0))) + 1)
    ticks = [10.0**power for power in powers][:: -math.ceil(len(powers) / most) or 1] or [shares[0]]
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelbottom=named)
    axes.grid(True)
    if named:
        axes.set_xlabel("trainable parameters (%)")


def _memory_axis(axes: "Axes", data: Costs, *, named: bool) -> None:
    """Gigabytes, and above them the band of what is out of memory."""
    from matplotlib.ticker import MaxNLocator

    edge, top = _band(data)
    steps = MaxNLocator(6, steps=[1, 2, 5, 10])
    ticks = [float(tick) for tick in steps.tick_values(0, edge) if 0 <= tick <= edge * (1 + 1e-9)]
    if all(one.memory_gb is None for one in data.costs) and data.capacity_gb is None:
        ticks = []  # nothing stands on such a scale
    labels = [f"{tick:g}" for tick in ticks]
    if top > edge:
        axes.axhspan(edge, top, facecolor="#e8e8e8", edgecolor="none", zorder=0)
        axes.axhline(edge, color="#666666", linewidth=0.8, linestyle="--", zorder=1)
        ticks, labels = [*ticks, (edge + top) / 2], [*labels, OOM]
    axes.set_ylim(0, top)
    axes.set_yticks(ticks, labels)
    if named:
        axes.set_ylabel(data.memory)
