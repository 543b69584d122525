"""figure-bars: scores as bars, a panel for each benchmark (Figure 2)."""

from typing import TYPE_CHECKING

from lntune.report.cells import Cell, Value, number, total
from lntune.report.rows import ShownItemSettings, cells_of, scale_note
from lntune.stages.figure import write_figure
from lntune.store.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from lntune.report.figures.bars import Bars, Score

PACKAGES = ("matplotlib", "numpy")


Settings = ShownItemSettings
Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    from lntune.report.figures.bars import draw_bars, write_csv

    settings = job.settings
    cells = cells_of(settings, job.folders("scores"))
    bars = _bars(settings, cells)
    write_figure(job.out, settings, bars, draw_bars, write_csv, cells)
    return {"bars": sum(map(len, cells))}


def _bars(settings: Settings, cells: list[list[Cell]]) -> "Bars":
    from lntune.report.figures.bars import Bars, Benchmark

    models = tuple(dict.fromkeys(row.group for row in settings.rows))
    titles = tuple(dict.fromkeys(row.title for row in settings.rows))
    by_row = {(row.group, row.title): its for row, its in zip(settings.rows, cells, strict=True)}
    benchmarks = []
    for place, column in enumerate(settings.columns):
        scores = tuple(tuple(_score(total(by_row[model, title][place])) for title in titles) for model in models)
        decimals = cells[0][place].decimals
        assert decimals is not None
        benchmarks.append(Benchmark(column, settings.formats[column].measure, decimals, scores))
    return Bars(models, titles, tuple(benchmarks), settings.scale, scale_note(settings))


def _score(value: Value) -> "Score":
    from lntune.report.figures.bars import Score

    return Score(number(value.text), value.interval)
