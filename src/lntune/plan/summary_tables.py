"""The tables that are no report item's: what data were made of, the paper's claims, our tables beside the paper's.

Claims and comparison rest on the tables and figures of the config; what has no counterpart there stays blank.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lntune.benchmarks.registry import by_name
from lntune.config.load import load
from lntune.errors import UserError
from lntune.paper.claims import Claims
from lntune.paper.printed import CLAIMS, PAPER, digests, paper_files, printed_names
from lntune.plan.node import Node

if TYPE_CHECKING:
    from lntune.plan.models import Plan


def _said_of_scale(plan: "Plan") -> dict[str, str]:
    return {"scale": plan.study.settings.scale, "scale_note": plan.scale.note}


def _data(plan: "Plan") -> Node:
    """What all training sets and benchmarks of the scale are made of."""
    rows, sets = [], []
    for name, data in plan.scale.data.items():
        rows.append({"name": name, "use": "training", "source": data.source})
        sets.append(plan.samples(name))
    for benchmark, sources in plan.scale.benchmarks.items():
        rows.append(
            {"name": by_name()[benchmark].column, "use": "benchmark", "source": " + ".join(dict.fromkeys(sources))}
        )
        sets.append(plan.questions(benchmark))
    settings = {"name": "data", "rows": rows, **_said_of_scale(plan)}
    return plan.node("data-table", ["data"], settings, {"sets": tuple(sets)})


def _beside_the_paper(plan: "Plan", stage: str, files: Mapping[str, Path], known: Iterable[str]) -> Node:
    """What needs the paper's files, and the tables and figures of the config that are ``known`` there."""
    tables = tuple(name for name in plan.study.settings.report_items if name in known)
    settings: dict[str, Any] = {
        "files": digests(files),
        "tables": tables,
        "protocol": plan.study.settings.protocol,
        **_said_of_scale(plan),
    }
    execution = {"paths": {name: str(path) for name, path in files.items()}}
    return plan.node(stage, [stage], settings, {"tables": tuple(plan.report_item(name) for name in tables)}, execution)


def _claims(plan: "Plan") -> Node:
    """What the paper says, also of figures whose numbers it does not print."""
    files = paper_files(plan.study.root)
    unprinted = load(files[CLAIMS], Claims).unprinted
    return _beside_the_paper(plan, "claims", files, {*printed_names(files), *unprinted})


def _comparison(plan: "Plan") -> Node:
    files = paper_files(plan.study.root, claims=False)
    return _beside_the_paper(plan, "comparison", files, printed_names(files))


SUMMARIES: Mapping[str, Callable[["Plan"], Node]] = MappingProxyType(
    {"data": _data, "claims": _claims, "comparison": _comparison}
)
STAGES_OF_REPORT_ITEMS = (
    "table", "figure-bars", "figure-cost", "figure-heat-maps", "figure-gradients", "data-table", "claims", "comparison",
)  # fmt: skip
"""The stages whose results are published."""


def names(plan: "Plan") -> list[str]:
    """Those of these tables that a checkout can have: without workflow/paper, nothing stands beside the paper."""
    return [name for name in SUMMARIES if name == "data" or (plan.study.root / PAPER).is_dir()]


def summary(plan: "Plan", name: str) -> Node:
    """The result that one of these tables shows; UserError if a report item has taken its name."""
    path = plan.study.report_item_path(name)
    if path.is_file():
        raise UserError(f"{path}: tables/{name} is no report item's; give this one another name")
    return SUMMARIES[name](plan)
