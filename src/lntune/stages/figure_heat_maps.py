"""figure-heat-maps: how alike a model's layers are, a panel for each row (Figures 3, A1, A2)."""

import json
from typing import TYPE_CHECKING

from lntune.errors import UserError
from lntune.report.rows import ExhibitSettings, Row, cells_of, scale_note, write_cells
from lntune.stages.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from lntune.report.figures.heatmaps import LayerSimilarity

PACKAGES = ("matplotlib", "numpy")


class Settings(ExhibitSettings):
    """What all tables and figures say; of several seeds the maps are those of the first."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    from lntune.report.figures.heatmaps import HeatMaps, draw_heat_maps, write_csv
    from lntune.report.figures.style import save

    settings = job.settings
    model = settings.rows[0].group
    if any(row.group != model for row in settings.rows):
        raise UserError(f"{settings.name}: heat maps are of one LLM; name one in llms")
    maps = HeatMaps(model, tuple(_map(job, row) for row in settings.rows), settings.scale, scale_note(settings))
    save(draw_heat_maps(maps), job.out, settings.name, settings.title)
    write_csv(maps, job.out / f"{settings.name}.csv")
    write_cells(job.out, settings, cells_of(settings, job.folders("scores")))
    return {"maps": len(maps.maps)}


def _map(job: Job[Settings, NoExecution], row: Row) -> "LayerSimilarity":
    from lntune.report.figures.heatmaps import LayerSimilarity

    tokens = job.settings.tokens
    assert tokens is not None
    folder = job.folders("scores")[row.scores[0][0]]
    found = json.loads((folder / "similarity.json").read_text())["tokens"][tokens]
    matrix = tuple(tuple(line) for line in found["matrix"])
    return LayerSimilarity(row.title, row.title, matrix, found["mean"])
