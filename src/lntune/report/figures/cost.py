"""Figure 1, right: how many parameters each method trains, against the memory that this takes."""

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from lntune.report.figures.style import TEXT_WIDTH, Category, add_note, categories, look, panels, write_rows, written

OOM = "OOM"


@dataclass(frozen=True)
class Cost:
    """One method's cost on one model.

    Attributes:
        model: the panel: an LLM, or a scale of LLMs ("7B scale").
        method: as tables call it.
        trainable_percent: of all parameters, how many train; above 0.
        memory_gb: the peak, in the unit of ``Costs.capacity_gb``; None: out of memory.
    """

    model: str
    method: str
    trainable_percent: float
    memory_gb: float | None


@dataclass(frozen=True)
class Costs:
    """What the figure shows.

    Attributes:
        costs: one for each model and method; both are shown in the order in which they come.
        memory: the vertical axis: what was measured or predicted, and where ("GPU memory, predicted (GB)").
        capacity_gb: what a device has; methods that run out of it are set above this line. None: not known.
        scale: at which the figure was made ("demo").
        note: what to know about that scale.
    """

    costs: tuple[Cost, ...]
    memory: str
    capacity_gb: float | None
    scale: str
    note: str = ""

    def __post_init__(self) -> None:
        """Hold what a logarithmic axis and a zero line can show."""
        assert self.costs
        assert all(one.trainable_percent > 0 and (one.memory_gb is None or one.memory_gb >= 0) for one in self.costs)


def write_csv(data: Costs, path: Path) -> None:
    """Write a line for each model and method, with Table 2's columns."""
    write_rows(
        path,
        ("model", "method", "Mem. (GB)", "#param.", "scale"),
        (
            (
                one.model,
                one.method,
                OOM if one.memory_gb is None else written(one.memory_gb),
                f"{written(one.trainable_percent)}%",
                data.scale,
            )
            for one in data.costs
        ),
    )


def draw_cost(data: Costs) -> Figure:
    """Draw a panel a model and a marker a method; what ran out of memory lies in a band above the axis, by name.

    Raises:
        UserError: there are too many methods to tell apart.
    """
    models = list(dict.fromkeys(one.model for one in data.costs))
    looks = categories(list(dict.fromkeys(one.method for one in data.costs)))
    columns = min(len(models), 3)
    rows = math.ceil(len(models) / columns)
    width = TEXT_WIDTH if columns > 1 else 0.6 * TEXT_WIDTH
    with look():
        figure, axes = panels(rows=rows, columns=columns, height=0.6 + 1.9 * rows, width=width, sharey=True)
        flat = [one for row in axes for one in row]
        for place, one in enumerate(flat):
            one.set_visible(place < len(models))
            if place < len(models):
                one.set_title(models[place])
                _points(one, [cost for cost in data.costs if cost.model == models[place]], looks, _band(data))
                _share_axis(one, data, most=6 if columns < 3 else 3, named=place + columns >= len(models))
                _memory_axis(one, data, named=place % columns == 0)
        _legend(figure, looks, columns=2 if columns == 1 else 3)
        add_note(figure, data.scale, data.note)
    return figure


@dataclass(frozen=True)
class _Band:
    """The vertical axis of all panels, in gigabytes: up to ``edge``, and above that up to ``top`` for what is OOM."""

    edge: float
    top: float

    @property
    def middle(self) -> float:
        return (self.edge + self.top) / 2


def _band(data: Costs) -> _Band:
    known = [one.memory_gb for one in data.costs if one.memory_gb is not None]
    highest = 1.1 * max(known, default=0.0) or 1.0
    if len(known) == len(data.costs):
        return _Band(highest, highest)
    edge = max(data.capacity_gb or 0.0, highest)
    return _Band(edge, 1.25 * edge)


def _points(axes: Axes, costs: list[Cost], looks: dict[str, Category], band: _Band) -> None:
    for one in costs:
        height = band.middle if one.memory_gb is None else one.memory_gb
        _marker(axes.plot([one.trainable_percent], [height], clip_on=False, zorder=3)[0], one.method, looks)


def _marker(line: Line2D, method: str, looks: dict[str, Category]) -> Line2D:
    its = looks[method]
    line.set(label=method, linestyle="none", marker=its.marker, markersize=6, markerfacecolor=its.colour)
    line.set(markeredgecolor="black", markeredgewidth=0.6)
    return line


def _share_axis(axes: Axes, data: Costs, *, most: int, named: bool) -> None:
    """Powers of ten, at most as many as ``most`` labels."""
    shares = [one.trainable_percent for one in data.costs]
    left, right = min(shares) / 2, max(shares) * 1.6
    powers = range(math.ceil(math.log10(left)), math.floor(math.log10(min(right, 100.0))) + 1)
    ticks = [10.0**power for power in powers][:: -math.ceil(len(powers) / most) or 1]
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xticks(ticks or [shares[0]], [f"{tick:g}" for tick in ticks or [shares[0]]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelbottom=named)
    axes.grid(True)
    if named:
        axes.set_xlabel("trainable parameters (%)")


def _memory_axis(axes: Axes, data: Costs, *, named: bool) -> None:
    """Gigabytes, and above them the band of what is out of memory."""
    band = _band(data)
    steps = MaxNLocator(6, steps=[1, 2, 5, 10])
    ticks = [float(tick) for tick in steps.tick_values(0, band.edge) if 0 <= tick <= band.edge * (1 + 1e-9)]
    if all(one.memory_gb is None for one in data.costs) and data.capacity_gb is None:
        ticks = []  # nothing stands on such a scale
    labels = [f"{tick:g}" for tick in ticks]
    if band.top > band.edge:
        axes.axhspan(band.edge, band.top, facecolor="#e8e8e8", edgecolor="none", zorder=0)
        axes.axhline(band.edge, color="#666666", linewidth=0.8, linestyle="--", zorder=1)
        ticks, labels = [*ticks, band.middle], [*labels, OOM]
    axes.set_ylim(0, band.top)
    axes.set_yticks(ticks, labels)
    if named:
        axes.set_ylabel(data.memory)


def _legend(figure: Figure, looks: dict[str, Category], *, columns: int) -> None:
    handles = [_marker(Line2D([], []), name, looks) for name in looks]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1.5, handletextpad=0.3)
