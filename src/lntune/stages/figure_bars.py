"""figure-bars: scores as bars, a panel for each benchmark (Figure 2)."""

from lntune.report.cells import Cell, cell_of, number, total
from lntune.report.rows import ExhibitSettings, write_cells
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("matplotlib",)

MEASURES = {
    "MME": "perception + cognition",
    "VQAv2": "accuracy (%)",
    "MSCOCO": "CIDEr",
    "Flickr30k": "CIDEr",
    "POPE": "mean accuracy (%)",
}
"""What a benchmark's bars show: of cells with several figures their sum (MME, as the paper has it) or their mean."""


class Settings(ExhibitSettings):
    """What all tables and figures say."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, .svg, .png, .csv and cells.json."""
    from lntune.report.figures.bars import Bars, Benchmark, Score, draw_bars, write_csv
    from lntune.report.figures.style import save

    settings, folders = job.settings, job.folders("scores")
    shown: list[list[Cell]] = [
        [
            cell_of(column, [folders[place] for place in places], settings.tokens)
            for column, places in zip(settings.columns, row.scores, strict=True)
        ]
        for row in settings.rows
    ]
    models = tuple(dict.fromkeys(row.group for row in settings.rows))
    titles = tuple(dict.fromkeys(row.title for row in settings.rows))
    by_place = {(row.group, row.title): cells for row, cells in zip(settings.rows, shown, strict=True)}
