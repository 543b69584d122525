"""Figure 2: models that are tuned on different types of data, on a panel a benchmark."""

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lntune.report.figures.style import TEXT_WIDTH, Category, add_note, broken, categories, look, panels, write_rows

MISSING = "-"
INTERVAL = " 95% interval"
"""What tables, too, call the column of a column's intervals."""

_BARS_OF_A_GROUP, _WIDEST = 0.8, 0.3
"""Widths, where the distance of two groups is 1."""

_ACROSS = 2
"""Panels in a row."""


@dataclass(frozen=True)
class Score:
    """One bar.

    Attributes:
        value: in the benchmark's unit; None: there is none (a model that does not follow the format), drawn as "-".
        interval: its 95% interval, or None.
    """

    value: float | None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Hold that what is missing has no interval."""
        assert self.value is not None or self.interval is None


@dataclass(frozen=True)
class Benchmark:
    """One panel.

    Attributes:
        column: as tables call the benchmark.
        measure: what its bars show ("perception + cognition", "accuracy (%)", "CIDEr").
        decimals: of the CSV.
        scores: for each model the scores of all rows, in the order of ``Bars.rows``.
    """

    column: str
    measure: str
    decimals: int
    scores: tuple[tuple[Score, ...], ...]


@dataclass(frozen=True)
class Bars:
    """What the figure shows.

    Attributes:
        models: the groups of bars.
        rows: the bars of each group, as tables call these rows: here, types of data.
        benchmarks: the panels.
        scale: at which the figure was made ("demo").
        note: what to know about that scale.
    """

    models: tuple[str, ...]
    rows: tuple[str, ...]
    benchmarks: tuple[Benchmark, ...]
    scale: str
    note: str = ""

    def __post_init__(self) -> None:
        """Hold that every bar is there, missing or not."""
        assert self.models and self.rows and self.benchmarks
        for one in self.benchmarks:
            assert len(one.scores) == len(self.models)
            assert all(len(scores) == len(self.rows) for scores in one.scores)


def write_csv(data: Bars, path: Path) -> None:
    """Write a line for each model and row, with a column and its interval for each benchmark."""
    header = ["model", "method"]
    for one in data.benchmarks:
        header += [one.column, one.column + INTERVAL]
    lines = []
    for m, model in enumerate(data.models):
        for r, row in enumerate(data.rows):
            cells = [cell for one in data.benchmarks for cell in _cells(one.scores[m][r], one.decimals)]
            lines.append((model, row, *cells, data.scale))
    write_rows(path, (*header, "scale"), lines)


def _cells(score: Score, decimals: int) -> tuple[str, str]:
    value = MISSING if score.value is None else f"{score.value:.{decimals}f}"
    bounds = (f"{bound:.{decimals}f}" for bound in score.interval or ())
    return value, "..".join(bounds) or MISSING


def draw_bars(data: Bars) -> Figure:
    """Draw a panel a benchmark, a group of bars a model, a colour and hatch a row; whiskers are the intervals.

    Raises:
        UserError: there are too many rows to tell apart.
    """
    looks = categories(data.rows)
    across = min(len(data.benchmarks), _ACROSS)
    down = math.ceil(len(data.benchmarks) / across)
    labels = [_label(model, models=len(data.models), across=across) for model in data.models]
    with look():
        lines = max(label.count("\n") + 1 for label in labels)
        height = 0.5 + down * (1.55 + 0.13 * lines)
        figure, axes = panels(rows=down, columns=across, height=height)
        flat = [one for row in axes for one in row]
        for place, one in enumerate(flat):
            one.set_visible(place < len(data.benchmarks))
            if place < len(data.benchmarks):
                _panel(one, data.benchmarks[place], looks)
                one.set_xticks(range(len(labels)), labels)
        handles = [_patch(name, its) for name, its in looks.items()]
        figure.legend(handles=handles, loc="outside upper center", ncols=4, columnspacing=1.5, handletextpad=0.5)
        add_note(figure, data.scale, data.note)
    return figure


def _patch(name: str, its: Category) -> Patch:
    return Patch(label=name, facecolor=its.colour, hatch=its.hatch, edgecolor="black", linewidth=0.6)


def _panel(axes: Axes, benchmark: Benchmark, looks: dict[str, Category]) -> None:
    width = min(_BARS_OF_A_GROUP / len(looks), _WIDEST)
    top = 0.0
    for r, (name, its) in enumerate(looks.items()):
        offset = (r - (len(looks) - 1) / 2) * width
        scores = [scores[r] for scores in benchmark.scores]
        values = [math.nan if one.value is None else one.value for one in scores]
        places = [m + offset for m in range(len(scores))]
        axes.bar(
            places, values, width, label=name, color=its.colour, hatch=its.hatch, edgecolor="black", linewidth=0.6
        )  # fmt: skip
        for place, one in zip(places, scores, strict=True):
            top = max(top, one.value or 0.0, *(one.interval or (0.0,)))
            _mark(axes, place, one)
    axes.set_title(benchmark.column)
    axes.set_ylabel(benchmark.measure)
    axes.set_xlim(-0.5, len(benchmark.scores) - 0.5)
    axes.set_ylim(0, 1.05 * top or 1.0)
    if top == 0:
        axes.set_yticks([])  # nothing stands on such a scale
    axes.tick_params(axis="x", length=0)
    axes.grid(True, axis="y")


def _mark(axes: Axes, place: float, score: Score) -> None:
    """The interval of a bar, or the sign that there is no bar."""
    if score.value is None:
        axes.text(place, 0, MISSING, ha="center", va="bottom", fontsize=12)
    elif score.interval is not None:
        low, high = score.interval
        # About its own middle: a bootstrap's interval need not lie around the value.
        middle, half = (low + high) / 2, (high - low) / 2
        axes.errorbar([place], [middle], yerr=[half], fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)


def _label(model: str, *, models: int, across: int) -> str:
    """A model's name in as few lines as fit next to the other models', these about equally long."""
    inches = (TEXT_WIDTH / across - 0.55) / models - 0.03
    lines = broken(model, inches)
    while len(tighter := broken(model, inches := 0.95 * inches)) == len(lines) and inches > 0.1:
        lines = tighter
    return "\n".join(lines)
