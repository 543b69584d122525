"""figure-heat-maps: how alike a model's layers are, a panel for each row (Figures 3, A1, A2).

Of several seeds the maps are those of the first.
"""

import json
from typing import TYPE_CHECKING

from lntune.report.rows import Row, ShownItemSettings, cells_of, scale_note
from lntune.stages.figure import write_figure
from lntune.store.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from lntune.report.figures.heatmaps import LayerSimilarity

PACKAGES = ("matplotlib", "numpy")


Settings = ShownItemSettings
Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    from lntune.report.figures.heatmaps import HeatMaps, draw_heat_maps, write_csv

    settings = job.settings
    model = settings.rows[0].group
    assert all(row.group == model for row in settings.rows), "one LLM, as the config is checked for"
    maps = HeatMaps(model, tuple(_map(job, row) for row in settings.rows), settings.scale, scale_note(settings))
    write_figure(job.out, settings, maps, draw_heat_maps, write_csv, cells_of(settings, job.folders("scores")))
    return {"maps": len(maps.maps)}


def _map(job: Job[Settings, NoExecution], row: Row) -> "LayerSimilarity":
    from lntune.report.figures.heatmaps import LayerSimilarity

    tokens = job.settings.tokens
    assert tokens is not None
    folder = job.folders("scores")[row.scores[0][0]]
    found = json.loads((folder / "similarity.json").read_text())["tokens"][tokens]
    matrix = tuple(tuple(line) for line in found["matrix"])
    return LayerSimilarity(row.title, row.title, matrix, found["mean"])
