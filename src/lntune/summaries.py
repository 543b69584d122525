"""The tables that are no experiment's: what data were made of, the paper's claims, our tables beside the paper's.

Claims and comparison rest on the tables and figures of the config; what has no counterpart there stays blank.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lntune.config.claims import Claims
from lntune.config.experiment import COLUMN_BENCHMARKS
from lntune.config.load import load
from lntune.errors import UserError
from lntune.nodes import Node
from lntune.paper_numbers import CLAIMS, PAPER, digests, paper_files, printed_names

if TYPE_CHECKING:
    from lntune.plan import Plan


def _said_of_scale(plan: "Plan") -> dict[str, str]:
    return {"scale": plan.study.settings.scale, "scale_note": plan.scale.note}


def _data(plan: "Plan") -> Node:
    """What all training sets and benchmarks of the scale are made of."""
    rows, sets = [], []
    for name, data in plan.scale.data.items():
        rows.append({"name": name, "use": "training", "source": data.source})
        sets.append(plan.samples(name))
    columns = {benchmark: column for column, benchmark in COLUMN_BENCHMARKS.items()}
    for benchmark, sources in plan.scale.benchmarks.items():
        rows.append({"name": columns[benchmark], "use": "benchmark", "source": " + ".join(dict.fromkeys(sources))})
        sets.append(plan.questions(benchmark))
    settings = {"name": "data", "rows": rows, **_said_of_scale(plan)}
    return plan.node("data-table", ["data"], settings, {"sets": tuple(sets)})


def _beside_the_paper(plan: "Plan", stage: str, files: Mapping[str, Path], known: Iterable[str]) -> Node:
    """What needs the paper's files, and the tables and figures of the config that are ``known`` there."""
    tables = tuple(name for name in plan.study.settings.experiments if name in known)
    settings: dict[str, Any] = {
        "files": digests(files),
        "tables": tables,
        "protocol": plan.study.settings.protocol,
        **_said_of_scale(plan),
    }
    execution = {"paths": {name: str(path) for name, path in files.items()}}
    return plan.node(stage, [stage], settings, {"tables": tuple(plan.exhibit(name) for name in tables)}, execution)


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
STAGES_OF_EXHIBITS = (
    "table", "figure-bars", "figure-cost", "figure-heat-maps", "figure-gradients", "data-table", "claims", "comparison",
)  # fmt: skip
"""The stages whose results are published."""


def names(plan: "Plan") -> list[str]:
    """Those of these tables that a checkout can have: without workflow/paper, nothing stands beside the paper."""
    return [name for name in SUMMARIES if name == "data" or (plan.study.root / PAPER).is_dir()]


def summary(plan: "Plan", name: str) -> Node:
    """The result that one of these tables shows; UserError if an experiment has taken its name."""
    path = plan.study.experiment_path(name)
    if path.is_file():
        raise UserError(f"{path}: tables/{name} is no experiment's; give this one another name")
    return SUMMARIES[name](plan)
