"""What every result truly holds, state by state: lntune runs each state of the checkout from an empty store."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from checkout import copy_checkout
from matrix.edits import Edit, Workspace
from matrix.replay import Contents, contents

GRAPH_PROGRAM = Path(__file__).with_name("graph.py")
TABLES = ("tiny", "other")
OTHER_REPORT_ITEM = """\
title: "Other: one way to tune, one benchmark"
columns: [POPE]
llms: [vicuna-7b]
rows:
  - {title: LayerNorm-Conv. 20K, method: layernorm, data: Conv.20K}
"""

Graph = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """A folder with ``graph.json`` and ``contents.json``, as :mod:`matrix.replay` reads them."""

    folder: Path

    @cached_property
    def graph(self) -> Graph:
        """The graph that :mod:`matrix.graph` printed."""
        graph: Graph = json.loads((self.folder / "graph.json").read_text())
        return graph

    @cached_property
    def files(self) -> dict[str, Contents]:
        """The files of every result, by ``stage/label``."""
        return {name: one["files"] for name, one in json.loads((self.folder / "contents.json").read_text()).items()}


def graph_of(root: Path) -> Graph:
    """The graph of a checkout as it is now, by its own code."""
    command = [sys.executable, str(GRAPH_PROGRAM), *TABLES]
    environment = os.environ | {"PYTHONPATH": "src"}
    printed = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE).stdout
    graph: Graph = json.loads(printed)
    return graph


def needed(graph: Graph) -> list[str]:
    """The results behind the tables that the config asks for."""
    found: dict[str, None] = {}
    open_ends = [f"table/{name}" for name in graph["targets"]]
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found[name] = None
            open_ends += [f"{stage}/{label}" for stage, label, _ in graph["nodes"][name]["inputs"]]
    return list(found)


def new_checkout(root: Path) -> Workspace:
    """The tiny checkout of the tests, with a second report item."""
    copy_checkout(root)
    (root / "workflow/report_items/other.yaml").write_text(OTHER_REPORT_ITEM)
    return Workspace(root, "lntune")


def copy(source: Path, target: Path) -> None:
    """Copy a folder with its times and links."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def make(folder: Path, edit: Edit, finished: Path | None = None) -> Truth:
    """Run a state of the checkout from nothing. ``finished`` gets a copy once the config's own table is made."""
    space = new_checkout(folder / "checkout")
    edit(space)
    space.snakemake("-c2")
    if finished is not None:
        copy(space.root, finished)
    space.snakemake("-c2", *(f"tables/{name}.{suffix}" for name in TABLES for suffix in ("csv", "md")))
    graph = graph_of(space.root)
    held = {}
    for name, node in graph["nodes"].items():
        place = space.root / "results" / node["stage"] / f"{node['label']}-{node['id']}"
        held[name] = {"folder": str(place), "files": contents(place)}
    (folder / "graph.json").write_text(json.dumps(graph))
    (folder / "contents.json").write_text(json.dumps(held))
    shutil.rmtree(space.root / ".snakemake")
    return Truth(folder)
