"""What people ask for by name: the files of tables and figures, whose names are fixed, and single results.

A file with a fixed name is the one thing that a hash in its path cannot vouch for, so it is compared with what it
should hold.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lntune.config.experiment import TableSettings
from lntune.errors import UserError
from lntune.nodes import Node, is_done, result_folder
from lntune.plan import Plan
from lntune.study import Study
from lntune.summaries import SUMMARIES
from lntune.summaries import names as summaries

TABLES, FIGURES = "tables", "figures"
FORMATS = {TABLES: ("csv", "md", "tex"), FIGURES: ("pdf", "svg", "png", "csv")}
"""The folders of published files, and the formats of what is in them."""

SUMMARY_FORMATS = ("csv", "md")
"""The formats of the tables that are no experiment's."""


@dataclass(frozen=True)
class Target:
    """A result that is asked for, and the published file that shows it, if it is asked for by that."""

    node: Node
    file: Path | None = None


def exhibit_name(target: str) -> str:
    """``tables/table3.csv`` and ``table3`` both name table3."""
    return Path(target).name.split(".")[0]


def files_of(study: Study, name: str) -> list[Path]:
    """The published files of a table or figure, the one for other programs first; UserError if there is no such one."""
    if name in SUMMARIES:
        return [Path(TABLES) / f"{name}.{suffix}" for suffix in SUMMARY_FORMATS]
    folder = TABLES if isinstance(study.experiment(name), TableSettings) else FIGURES
    return [Path(folder) / f"{name}.{suffix}" for suffix in FORMATS[folder]]


def asked_files(study: Study, target: str) -> list[Path]:
    """The published files that are meant by the name of a table or figure, or by that of one of its files.

    Raises:
        UserError: there is no such table or figure, or it is not made in that format, or lies in the other folder.
    """
    path = Path(target)
    files = files_of(study, exhibit_name(target))
    if not path.suffix:
        return files
    for file in files:
        if file.suffix == path.suffix and path.parent.name in ("", file.parent.name):
            return [file]
    raise UserError(f"{target}: there is none; there are {', '.join(map(str, files))}")


def targets_of(plan: Plan, given: Sequence[str]) -> list[Target]:
    """What the names mean: ``table3`` (in all formats), ``tables/table3.csv``, ``score-pope/NAME-ID`` or its manifest.

    Without names, what a plain ``snakemake`` makes: every table and figure of the config, and of every study.

    Raises:
        UserError: a name means nothing under this config; near ones are given.
    """
    if not given:
        given = (*plan.study.settings.experiments, *summaries(plan))
    return [target for name in given for target in _meant(plan, name)]


def _meant(plan: Plan, name: str) -> list[Target]:
    path = Path(name)
    parts = (path.parent if path.name == "manifest.json" else path).parts
    if len(parts) >= 2 and parts[-2] not in FORMATS:
        return [Target(result_node(plan, parts[-2], parts[-1]))]
    return [Target(plan.exhibit(exhibit_name(name)), file) for file in asked_files(plan.study, name)]


def result_node(plan: Plan, stage: str, name: str) -> Node:
    """The node of a result's folder, whichever table or figure rests on it; UserError if there is none."""
    found = plan.find(stage, name)
    if found is None:
        for exhibit in (*plan.study.experiments(), *summaries(plan)):
            plan.exhibit(exhibit)
        found = plan.find(stage, name)
    if found is None:
        known = [f"{node.stage}/{node.name}" for node in plan.nodes()]
        near = difflib.get_close_matches(f"{stage}/{name}", known, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else "`lntune plan --json` lists those that are pending"
        raise UserError(f"{stage}/{name}: is no result of this config; {hint}")
    return found


def is_right(plan: Plan, file: Path) -> bool:
    """Whether a published file is there and holds what its result holds."""
    node = plan.exhibit(file.stem)
    made = result_folder(plan.store, node) / file.name
    try:
        return is_done(plan.store, node) and made.read_bytes() == file.read_bytes()
    except FileNotFoundError:
        return False
