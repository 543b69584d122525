"""figure-cost: trainable parameters against memory (Figure 1, right)."""

from typing import TYPE_CHECKING

from lntune.report.cells import Cell, number
from lntune.report.rows import ShownItemSettings, cells_of, scale_note
from lntune.stages.figure import write_figure
from lntune.store.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from lntune.report.figures.cost import Costs

PACKAGES = ("matplotlib", "numpy")


class Settings(ShownItemSettings):
    """What all tables and figures say; the device's memory, in 10**9 bytes, if there is one to fill."""

    capacity_gb: float | None


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    from lntune.report.figures.cost import draw_cost, write_csv

    settings = job.settings
    cells = cells_of(settings, job.folders("scores"))
    costs = _costs(settings, cells)
    write_figure(job.out, settings, costs, draw_cost, write_csv, cells)
    return {"points": len(costs.costs)}


def _costs(settings: Settings, cells: list[list[Cell]]) -> "Costs":
    from lntune.report.figures.cost import Cost, Costs

    found = []
    for row, (memory, parameters) in zip(settings.rows, cells, strict=True):
        share = number(parameters.text)
        assert share is not None
        found.append(Cost(row.group, row.title, share, number(memory.text)))
    axis = "GPU memory (GB)" if settings.capacity_gb is not None else "memory on the CPU (GB)"
    return Costs(tuple(found), axis, settings.capacity_gb, settings.scale, scale_note(settings))
