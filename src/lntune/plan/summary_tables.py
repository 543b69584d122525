"""The tables that every study has: what data were made of, the paper's claims, our tables compared with the paper's.

Claims and comparison rest on the tables and figures of the config; what has no counterpart there stays blank.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lntune.benchmarks.registry import by_name
from lntune.config.load import load
from lntune.errors import UserError
from lntune.paper.claims import Claims
from lntune.paper.printed import CLAIMS, PAPER, digests, paper_files, printed_names
from lntune.paper.settings import Execution, Settings
from lntune.plan.models import Models
from lntune.plan.node import Node
from lntune.stages import data_table

SUMMARIES = ("data", "claims", "comparison")
STAGES_OF_REPORT_ITEMS = (
    "table", "figure-bars", "figure-cost", "figure-heat-maps", "figure-gradients", "data-table", "claims", "comparison",
)  # fmt: skip
"""The stages whose results are published."""


def names(models: Models) -> list[str]:
    """Those of these tables that a checkout can have: without workflow/paper, there is nothing to compare with."""
    return [name for name in SUMMARIES if name == "data" or (models.study.root / PAPER).is_dir()]


def summary(models: Models, name: str, report_item: Callable[[str], Node]) -> Node:
    """The result that one of these tables shows, given the nodes of report items by name.

    Raises:
        UserError: a report item has taken the table's name.
    """
    study = models.study
    path = study.report_item_path(name)
    if path.is_file():
        raise UserError(f"{path}: tables/{name} is no report item's; give this one another name")
    if name == "data":
        return _data(models)
    files = paper_files(study.root, claims=name == "claims")
    known = set(printed_names(files))
    if name == "claims":  # the paper also says things of figures whose numbers it does not print
        known |= set(load(files[CLAIMS], Claims).unprinted)
    return _with_paper(models, name, files, known, report_item)


def _data(models: Models) -> Node:
    """What all training sets and benchmarks of the scale are made of."""
    rows, sets = [], []
    for name, data in models.scale.data.items():
        rows.append(data_table.Row(name=name, use="training", source=data.source))
        sets.append(models.samples(name))
    for benchmark, sources in models.scale.benchmarks.items():
        source = " + ".join(dict.fromkeys(sources))
        rows.append(data_table.Row(name=by_name()[benchmark].column, use="benchmark", source=source))
        sets.append(models.questions(benchmark))
    settings = data_table.Settings(
        name="data", rows=tuple(rows), scale=models.study.settings.scale, scale_note=models.scale.note
    )
    return models.node("data-table", ["data"], settings, {"sets": tuple(sets)})


def _with_paper(
    models: Models, stage: str, files: Mapping[str, Path], known: Iterable[str], report_item: Callable[[str], Node]
) -> Node:
    """What needs the paper's files, and the tables and figures of the config that are ``known`` there."""
    chosen = models.study.settings
    tables = tuple(name for name in chosen.report_items if name in known)
    settings = Settings(
        files=digests(files),
        tables=tables,
        protocol=chosen.protocol,
        scale=chosen.scale,
        scale_note=models.scale.note,
    )
    execution = Execution(paths={name: str(path) for name, path in files.items()})
    return models.node(stage, [stage], settings, {"tables": tuple(map(report_item, tables))}, execution)
