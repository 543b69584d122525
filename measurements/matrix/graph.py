"""Writes, as JSON, the results that a checkout's tables rest on. Run with that checkout's own code:

    PYTHONPATH=src python measurements/matrix/graph.py tiny other > graph.json

``targets`` are the tables that config.yaml asks for. ``nodes`` are all results behind the tables named: settings in the
order in which the YAML files write them, inputs as (stage, label, folder in it), source files, packages.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from lntune.plan.node import Node, Part, closure
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.plan.study import Study


def key_order(value: Any, order: dict[str, int]) -> dict[str, int]:
    """Add the keys in a document to ``order``, each with the place at which it is first written."""
    if isinstance(value, dict):
        for key in value:
            order.setdefault(str(key), len(order))
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        key_order(item, order)
    return order


def as_written(value: Any, order: dict[str, int]) -> Any:
    """A section of the config with its keys in the order of the config."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: order.get(key, len(order)))
        return {key: as_written(value[key], order) for key in keys}
    return value


def source_file(module: str) -> str:
    """A module's file, from the checkout."""
    path = Path("src", *module.split("."))
    return str(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))


def inputs_of(node: Node) -> list[tuple[str, str, str | None]]:
    """Stage, label and part of every input."""
    found: list[tuple[str, str, str | None]] = []
    for given in node.inputs.values():
        for one in given if isinstance(given, tuple) else (given,):
            whole, part = (one.node, one.folder) if isinstance(one, Part) else (one, None)
            found.append((whole.stage, whole.label, part))
    return list(dict.fromkeys(found))


def describe(node: Node, order: dict[str, int]) -> dict[str, Any]:
    """One result."""
    module = STAGES[node.stage]
    settings = node.settings.model_dump(mode="json")
    return {
        "stage": node.stage,
        "label": node.label,
        "id": node.id,
        "settings": {key: as_written(value, order) for key, value in settings.items()},
        "execution": node.execution.model_dump(mode="json"),
        "inputs": inputs_of(node),
        "module": source_file(module),
        "modules": sorted(source_file(name) for name in node.code_version.code),
        "packages": sorted(node.code_version.packages),
    }


def main(tables: list[str]) -> None:
    """Print the graph."""
    plan = Plan(Study.read(Path(".")))
    protocol = plan.study.root / "workflow" / "protocols" / f"{plan.study.settings.protocol}.yaml"
    texts = (plan.study.scale_file, protocol)
    order = key_order([yaml.safe_load(path.read_text()) for path in texts], {})
    nodes = closure([plan.report_item(name) for name in tables])
    described = {f"{node.stage}/{node.label}": describe(node, order) for node in nodes}
    assert len(described) == len(nodes), "two results of a stage have one label"
    print(json.dumps({"targets": list(plan.study.settings.report_items), "nodes": described}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
