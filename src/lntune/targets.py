"""What people ask for by name: the files of tables, whose names are fixed, and single results.

A file with a fixed name is the one thing that a hash in its path cannot vouch for, so it is compared with what it
should hold.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lntune.errors import UserError
from lntune.nodes import Node, is_done, result_folder
from lntune.plan import Plan
from lntune.summaries import names as summaries

TABLES = "tables"
FORMATS = ("csv", "md")


@dataclass(frozen=True)
class Target:
    """A result that is asked for, and the published file that shows it, if it is asked for by that."""

    node: Node
    file: Path | None = None


def table_name(target: str) -> str:
    """``tables/table3.csv`` and ``table3`` both name table3."""
    return Path(target).name.split(".")[0]


def targets_of(plan: Plan, given: Sequence[str]) -> list[Target]:
    """What the names mean: ``table3`` (in all formats), ``tables/table3.csv``, ``score-pope/NAME-ID`` or its manifest.

    Without names, every table of the config.

    Raises:
        UserError: a name means nothing under this config; near ones are given.
    """
    if not given:
        given = plan.study.settings.experiments
    return [target for name in given for target in _meant(plan, name)]


def _meant(plan: Plan, name: str) -> list[Target]:
    path = Path(name)
    parts = (path.parent if path.name == "manifest.json" else path).parts
    if len(parts) >= 2 and parts[-2] != TABLES:
        return [Target(result_node(plan, parts[-2], parts[-1]))]
    table = table_name(name)
    formats = [path.suffix[1:]] if path.suffix else FORMATS
    for suffix in formats:
        if suffix not in FORMATS:
            raise UserError(f"{name}: tables are made as {' and '.join(FORMATS)}")
    return [Target(plan.table(table), Path(TABLES) / f"{table}.{suffix}") for suffix in formats]


def result_node(plan: Plan, stage: str, name: str) -> Node:
    """The node of a result's folder, be its table one that the config names or another; UserError if there is none."""
    found = plan.find(stage, name)
    if found is None:
        for table in (*plan.study.experiments(), *summaries(plan)):
            plan.table(table)
        found = plan.find(stage, name)
    if found is None:
        known = [f"{node.stage}/{node.name}" for node in plan.nodes()]
        near = difflib.get_close_matches(f"{stage}/{name}", known, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else "`lntune plan --json` lists those that are pending"
        raise UserError(f"{stage}/{name}: is no result of this config; {hint}")
    return found


def is_right(plan: Plan, file: Path) -> bool:
    """Whether a published file is there and holds what its table's result holds."""
    node = plan.table(file.stem)
    made = result_folder(plan.store, node) / file.name
    try:
        return is_done(plan.store, node) and made.read_bytes() == file.read_bytes()
    except FileNotFoundError:
        return False
