"""What people ask for by name: the files of tables and figures, whose names are fixed, and single results.

A file with a fixed name is the one thing that a hash in its path cannot vouch for, so it is compared with what it
should hold.
"""

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lntune.config.report_item import TableSettings
from lntune.errors import UserError
from lntune.plan.node import Node, input_folders, is_done, result_folder
from lntune.plan.plan import SUMMARIES, Plan
from lntune.plan.study import Study
from lntune.report.rows import Row, ShownItemSettings, row_called
from lntune.stages import predict
from lntune.stages.asked import Execution
from lntune.store.job import Job
from lntune.training.endings import describe, read_endings

PredictJob = Job[predict.Settings, Execution]

TABLES, FIGURES = "tables", "figures"
FORMATS = {TABLES: ("csv", "md", "tex"), FIGURES: ("pdf", "svg", "png", "csv")}
"""The folders of published files, and the formats of what is in them."""

SUMMARY_FORMATS = ("csv", "md")
"""The formats of the tables that are no report item's."""


@dataclass(frozen=True)
class Target:
    """A result that is asked for, and the published file that shows it, if it is asked for by that."""

    node: Node
    file: Path | None = None


def report_item_name(target: str) -> str:
    """``tables/table3.csv`` and ``table3`` both name table3."""
    return Path(target).name.split(".")[0]


def files_of(study: Study, name: str) -> list[Path]:
    """The published files of a table or figure, the one for other programs first; UserError if there is no such one."""
    if name in SUMMARIES:
        return [Path(TABLES) / f"{name}.{suffix}" for suffix in SUMMARY_FORMATS]
    folder = TABLES if isinstance(study.report_item(name), TableSettings) else FIGURES
    return [Path(folder) / f"{name}.{suffix}" for suffix in FORMATS[folder]]


def asked_files(study: Study, target: str) -> list[Path]:
    """The published files that the name of a table or figure, or of one of its files, means; UserError if none."""
    path = Path(target)
    files = files_of(study, report_item_name(target))
    if not path.suffix:
        return files
    for file in files:
        if file.suffix == path.suffix and path.parent.name in ("", file.parent.name):
            return [file]
    raise UserError(f"{target}: there is none; there are {', '.join(map(str, files))}")


def shown_names(plan: Plan) -> list[str]:
    """The tables and figures that a plain ``snakemake`` makes."""
    return list(dict.fromkeys((*plan.study.settings.report_items, *plan.summaries())))


def targets_of(plan: Plan, given: Sequence[str]) -> list[Target]:
    """What the names mean: ``table3`` (in all formats), ``tables/table3.csv``, ``score-mme/NAME-ID`` or its manifest.

    Without names, all that a plain ``snakemake`` makes: every file of the config's tables and figures, and of what
    every study has besides. UserError, with near names, for one that means nothing under this config.
    """
    return [target for name in given or shown_names(plan) for target in _meant(plan, name)]


def _meant(plan: Plan, name: str) -> list[Target]:
    path = Path(name)
    if path == Path("site/index.html"):
        raise UserError(f"{name}: shows what is finished, and nothing is made for it; name the tables and figures")
    parts = (path.parent if path.name == "manifest.json" else path).parts
    if len(parts) >= 2 and parts[-2] not in FORMATS:
        return [Target(result_node(plan, parts[-2], parts[-1]))]
    return [Target(plan.report_item(report_item_name(name)), file) for file in asked_files(plan.study, name)]


def result_node(plan: Plan, stage: str, name: str) -> Node:
    """The node of a result's folder, whichever table or figure rests on it; UserError if there is none."""
    found = plan.find(stage, name)
    if found is None:
        for report_item in plan.known_items():
            plan.report_item(report_item)
        found = plan.find(stage, name)
    if found is None:
        known = [node.path for node in plan.nodes()]
        near = difflib.get_close_matches(f"{stage}/{name}", known, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else "`lntune plan --json` lists those that are pending"
        raise UserError(f"{stage}/{name}: is no result of this config; {hint}")
    return found


def predictions(plan: Plan, row: str) -> tuple[Node, Row, dict[str, Node]]:
    """The table that "TABLE ROW" names, the row, and by column who answers its questions, with the first seed.

    A row is named as ``lntune trace`` names it. UserError if there is none, if nothing of the row is a model's answers,
    if those are not made yet, or if training ended without a model.
    """
    name, _, asked = row.strip().partition(" ")
    node = plan.report_item(asked_files(plan.study, name)[0].stem)
    settings: Any = node.settings
    rows = settings.rows if isinstance(settings, ShownItemSettings) else ()
    found = row_called(rows, asked.strip(), f"{row!r}: {name}")
    scored = settings.sources(found, node.players("scores"))
    answered = {column: seeds[0].players("answers")[:1] for column, seeds in scored.items() if seeds}
    by_column = {column: made[0] for column, made in answered.items() if made and made[0].stage == "predict"}
    if not by_column:
        raise UserError(f"{row!r}: no column of {name} holds answers of a model that was tuned here")
    pending = [one for one in (node, *by_column.values()) if not is_done(plan.store, one)]
    if pending:
        raise UserError(
            f"{row!r}: {pending[0].path} is not made yet; run `snakemake {asked_files(plan.study, name)[0]}`"
        )
    if runs := read_endings(result_folder(plan.store, next(iter(by_column.values())))):
        raise UserError(f"{row!r}: training {describe(runs)}, so there is no model")
    return node, found, by_column


def predict_job(plan: Plan, node: Node, out: Path = Path()) -> PredictJob:
    """The job that asked a row's model, as the plan has it, to be done into ``out``."""
    settings, execution = node.settings, node.execution
    assert isinstance(settings, predict.Settings) and isinstance(execution, Execution), "of the stage predict"
    return Job(node.label, settings, execution, input_folders(plan.store, node), out, out)


def is_right(plan: Plan, file: Path) -> bool:
    """Whether a published file is there and holds what its result holds."""
    node = plan.report_item(file.stem)
    if not is_done(plan.store, node):
        return False
    folder = result_folder(plan.store, node)
    with suppress(FileNotFoundError):
        return file.read_bytes() == (folder / file.name).read_bytes()
    return False
