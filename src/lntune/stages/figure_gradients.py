"""figure-gradients: gradients of a layer's norms while models are tuned (Figures 4, A3, A4).

The inputs are selections, whose chosen run's log holds what was recorded at each step; of several seeds the first's.
"""

from typing import TYPE_CHECKING

from pydantic import Field

from lntune.config import Frozen
from lntune.config.training import Norm
from lntune.report.rows import Row, ShownItemSettings, scale_note
from lntune.stages.figure import write_figure
from lntune.store.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from pathlib import Path

    from lntune.report.figures.gradients import NormGradients

PACKAGES = ("matplotlib", "numpy")


class ShownNorm(Frozen):
    """A norm of the ``layer``-th layer ``of`` so many."""

    norm: Norm
    layer: int
    of: int


class Settings(ShownItemSettings):
    """What all tables and figures say, and which norms are shown."""

    norms: tuple[ShownNorm, ...] = Field(strict=False)


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    from lntune.analysis.gradient_variance import layer_at, recorded_layers
    from lntune.report.figures.gradients import Gradients, draw_gradients, write_csv

    settings = job.settings
    model, first = settings.rows[0].group, settings.norms[0]
    assert all(row.group == model for row in settings.rows), "one LLM, as the config is checked for"
    assert all((norm.layer, norm.of) == (first.layer, first.of) for norm in settings.norms), "and one layer"
    layer = layer_at(first.layer, first.of, recorded_layers(_log(job, settings.rows[0])))
    series = tuple(_series(_log(job, row), row, norm, layer) for norm in settings.norms for row in settings.rows)
    shown = Gradients(model, layer, series, settings.scale, scale_note(settings))
    write_figure(job.out, settings, shown, draw_gradients, write_csv, [[] for _ in settings.rows])
    return {"layer": layer, **{f"variance_{one.method}_{one.norm}": one.variance for one in series}}


def _log(job: Job[Settings, NoExecution], row: Row) -> "Path":
    from lntune.stages.select import CHOSEN

    return job.folders("selections")[row.selections[0]] / CHOSEN / "metrics.jsonl"


def _series(log: "Path", row: Row, norm: ShownNorm, layer: int) -> "NormGradients":
    import numpy as np

    from lntune.analysis.gradient_variance import pooled_variance, read_norm_gradients
    from lntune.report.figures.gradients import NormGradients

    found = read_norm_gradients(log, layer, norm.norm)
    kinds = (found.mean, np.sqrt(found.variance), found.minimum, found.maximum)
    mean, deviation, lowest, highest = (tuple(map(float, values)) for values in kinds)
    steps = tuple(map(int, found.steps))
    return NormGradients(row.title, norm.norm, steps, mean, deviation, lowest, highest, pooled_variance(found))
