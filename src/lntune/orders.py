"""Writes the plan's orders: one small file for each result that is still to be made, read by the job that makes it."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from lntune.nodes import Node, input_folders, is_done
from lntune.stages.registry import STAGES
from lntune.store.fingerprint import raw_digest
from lntune.store.layout import Store


def order_path(store: Store, node: Node) -> Path:
    """Where a node's order lies."""
    return store.root / ".orders" / node.stage / f"{node.name}.json"


def order_of(store: Store, node: Node, source: str) -> dict[str, object]:
    """What :mod:`lntune.runner` needs to make a node's result; ``source`` is the digest of all source files."""
    inputs = {
        role: str(folders) if isinstance(folders, Path) else [str(folder) for folder in folders]
        for role, folders in input_folders(store, node).items()
    }
    maker = node.maker
    return {
        "stage": node.stage,
        "label": node.label,
        "id": node.id,
        "module": f"lntune.stages.{STAGES[node.stage]}",
        "store": str(store.root),
        "identity": node.identity.document(),
        "source": source,
        "code": dict(maker.code),
        "packages": dict(maker.packages),
        "accepted": [edit.model_dump(mode="json") for edit in maker.accepted],
        "execution": node.execution.model_dump(mode="json"),
        "inputs": inputs,
    }


def write_orders(store: Store, nodes: Iterable[Node]) -> int:
    """Write the orders of those nodes whose results are missing; return how many there were."""
    number, source = 0, raw_digest("lntune")
    for node in nodes:
        if is_done(store, node):
            continue
        path = order_path(store, node)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(order_of(store, node, source)))
        os.replace(temporary, path)
        number += 1
    return number
