"""figure-bars: scores of models that are tuned on different types of data, a panel for each benchmark (Figure 2)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lntune.report.cells import NO_SCORE, Cell, Interval, number, total
from lntune.report.figure import TEXT_WIDTH, Category, broken, categories, look, panels, write_figure
from lntune.report.rows import ShownItemSettings, cells_of
from lntune.store.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PACKAGES = ("matplotlib", "numpy")

_BARS_OF_A_GROUP, _WIDEST = 0.8, 0.3
"""Widths, where the distance of two groups is 1."""

_ACROSS = 2
"""Panels in a row."""

Settings = ShownItemSettings
Execution = NoExecution


class Score(NamedTuple):
    """One bar: its value, None where a model does not follow the format (drawn as "-"), and its 95% interval."""

    value: float | None
    interval: Interval = None


class Benchmark(NamedTuple):
    """One panel: the benchmark as tables call it, what bars show ("accuracy (%)"), decimals of the CSV, and scores.

    These are, for each model, those of all rows, in the order of ``Bars.rows``.
    """

    column: str
    measure: str
    decimals: int
    scores: Sequence[Sequence[Score]]


class Bars(NamedTuple):
    """What the figure shows: groups of bars, the bars of each (here, types of data), and the panels."""

    models: Sequence[str]
    rows: Sequence[str]
    benchmarks: Sequence[Benchmark]


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    settings = job.settings
    cells = cells_of(settings, job.folders("scores"))
    bars = _bars(settings, cells)
    write_figure(job.out, settings, draw_bars(bars), csv_header(bars), csv_rows(bars), cells)
    return {"bars": sum(map(len, cells))}


def _bars(settings: Settings, cells: list[list[Cell]]) -> Bars:
    models = list(dict.fromkeys(row.group for row in settings.rows))
    titles = list(dict.fromkeys(row.title for row in settings.rows))
    by_row = {(row.group, row.title): its for row, its in zip(settings.rows, cells, strict=True)}
    benchmarks = []
    for place, column in enumerate(settings.columns):
        values = [[total(by_row[model, title][place]) for title in titles] for model in models]
        scores = [[Score(number(one.text), one.interval) for one in its] for its in values]
        decimals = cells[0][place].decimals
        assert decimals is not None
        benchmarks.append(Benchmark(column, settings.formats[column].measure, decimals, scores))
    return Bars(models, titles, benchmarks)


def csv_header(data: Bars) -> list[str]:
    """A column and its interval for each benchmark, as tables call them."""
    columns = (name for one in data.benchmarks for name in (one.column, f"{one.column} 95% interval"))
    return ["model", "method", *columns]


def csv_rows(data: Bars) -> list[list[str]]:
    """A line for each model and row."""
    return [
        [model, row, *(cell for one in data.benchmarks for cell in _cells(one.scores[m][r], one.decimals))]
        for m, model in enumerate(data.models)
        for r, row in enumerate(data.rows)
    ]


def _cells(score: Score, decimals: int) -> tuple[str, str]:
    value = NO_SCORE if score.value is None else f"{score.value:.{decimals}f}"
    bounds = (f"{bound:.{decimals}f}" for bound in score.interval or ())
    return value, "..".join(bounds) or NO_SCORE


def draw_bars(data: Bars) -> "Figure":
    """Draw a panel a benchmark, a group of bars a model, a look a row; UserError if these are too many."""
    from matplotlib.patches import Patch

    looks = categories(data.rows)
    across = min(len(data.benchmarks), _ACROSS)
    labels = [_label(model, models=len(data.models), across=across) for model in data.models]
    with look():
        height = 1.55 + 0.13 * max(label.count("\n") + 1 for label in labels)
        figure, axes = panels(len(data.benchmarks), across=across, above=0.5, height=height, width=TEXT_WIDTH)
        for panel, benchmark in zip(axes, data.benchmarks, strict=True):
            _panel(panel, benchmark, looks)
            panel.set_xticks(range(len(labels)), labels)
        handles = [
            Patch(label=name, facecolor=its.colour, hatch=its.hatch, edgecolor="black", linewidth=0.6)
            for name, its in looks.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=4, columnspacing=1.5, handletextpad=0.5)
    return figure


def _panel(axes: "Axes", benchmark: Benchmark, looks: dict[str, Category]) -> None:
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


def _mark(axes: "Axes", place: float, score: Score) -> None:
    """The interval of a bar, or the sign that there is no bar."""
    if score.value is None:
        axes.text(place, 0, NO_SCORE, ha="center", va="bottom", fontsize=12)
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
