"""Writes the job specs: one small file for each result that is still to be made, read by the job that makes it."""

import json
from collections.abc import Iterable
from pathlib import Path

from lntune.files import write_whole
from lntune.plan.node import Node, input_folders, is_done
from lntune.plan.stages import STAGES
from lntune.store.fingerprint import raw_digest
from lntune.store.layout import Store


def spec_path(store: Store, node: Node) -> Path:
    """Where a node's job spec lies."""
    return store.root / ".jobs" / node.stage / f"{node.name}.json"


def spec_of(store: Store, node: Node, source: str) -> dict[str, object]:
    """What :mod:`lntune.jobs.run` needs to make a node's result; ``source`` is the digest of all source files."""
    inputs = {
        role: str(folders) if isinstance(folders, Path) else [str(folder) for folder in folders]
        for role, folders in input_folders(store, node).items()
    }
    code_version = node.code_version
    return {
        "stage": node.stage,
        "label": node.label,
        "id": node.id,
        "module": STAGES[node.stage],
        "store": str(store.root),
        "identity": node.identity.document(),
        "source": source,
        "code": dict(code_version.code),
        "packages": dict(code_version.packages),
        "accepted": [edit.model_dump(mode="json") for edit in code_version.accepted],
        "execution": node.execution.model_dump(mode="json"),
        "inputs": inputs,
    }


def write_specs(store: Store, nodes: Iterable[Node]) -> int:
    """Write the job specs of those nodes whose results are missing; return how many there were."""
    number, source = 0, raw_digest("lntune")
    for node in nodes:
        if is_done(store, node):
            continue
        path = spec_path(store, node)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(spec_of(store, node, source)))
        number += 1
    return number
