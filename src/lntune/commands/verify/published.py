"""The published files of tables and figures, and which cells two versions of such a file have different."""

import json
from pathlib import Path

from lntune.commands.verify.basis import Cell
from lntune.commands.verify.findings import Findings
from lntune.config import Frozen
from lntune.plan.node import is_done, manifest_path
from lntune.plan.plan import Plan
from lntune.plan.targets import Target, is_right
from lntune.report.published import Shown, difference, shown_in
from lntune.report.rows import ShownItemSettings


def check_published(plan: Plan, root: Path, targets: list[Target], findings: Findings) -> None:
    """Whether each target is made, and each published file that is asked for holds what its result holds."""
    for target in targets:
        file, manifest = target.file, manifest_path(plan.store, target.node)
        if not is_done(plan.store, target.node):
            path = file or manifest.parent
            findings.problem(path, f"is not made yet under this config; run `snakemake {file or manifest}`")
        elif file is not None and not is_right(plan, root / file):
            made = manifest.parent / file.name
            if not (root / file).is_file():
                findings.problem(file, f"is not there; run `snakemake {file}`", cells=())
            elif made.is_file():
                what = f"does not show {made.parent}: it has {difference(made, root / file)}; run `snakemake {file}`"
                cells = differing_cells(target.node.settings, made, root / file)
                findings.problem(file, what, [target.node], cells=cells)
            else:
                what = f"is not the page of {made.parent}; run `snakemake {file}`"
                findings.problem(file, what, [target.node], cells=())


def differing_cells(settings: Frozen, one: Path, other: Path) -> list[Cell] | None:
    """The cells that two versions of a file of a table or figure show differently; None if that is unclear.

    It is unclear when a row or column is there in one of them only, or the rows are not the table's own, or a file is
    not to be read as cells.
    """
    if not isinstance(settings, ShownItemSettings):
        return None
    try:
        first, second = _shown(one), _shown(other)
    except (ValueError, KeyError, TypeError, OSError):
        return None
    rows = {f"{row.group}: {row.title}" for row in settings.rows}
    if not rows <= {row for row, _ in first} or first.keys() != second.keys():
        return None
    return [Cell(settings.name, row, column) for (row, column), text in first.items() if second[row, column] != text]


def _shown(path: Path) -> Shown:
    """As :func:`lntune.report.published.shown_in`; of cells.json, all that it says of each cell."""
    if path.suffix != ".json":
        return shown_in(path)
    return {(one["row"], one["column"]): json.dumps(one, sort_keys=True) for one in json.loads(path.read_text())}
