"""The workflow as a careful author writes it without lntune's names: a Snakefile, and a dvc.yaml, of the same graph.

Paths are ``results/<stage>/<label>/``. A rule's inputs are all files of what it is made from, and the stage's own
module; the settings are its params, in the words of the config. In DVC a stage depends on every module that it runs on.
"""

import re
from collections.abc import Iterable
from typing import Any

import yaml

from matrix.replay import place_of
from matrix.truth import Graph, Truth

Names = tuple[str, ...]

HEAD = '''\
"""What tables rest on, from fixed paths. graph.json stands for what an author's code works out from config.yaml."""

import json

with open("graph.json") as file:
    GRAPH = json.load(file)


def of(key, stage, label=None):
    return lambda wildcards: GRAPH["nodes"][f"{stage}/{label or wildcards.label}"][key]


wildcard_constraints:
    label="[^/]+",


rule all:
    input:
        GRAPH["targets"],
'''


class Layout:
    """Which files each result has, as far as a rule may name them before it runs."""

    def __init__(self, truths: Iterable[Truth]) -> None:
        seen: dict[str, set[Names]] = {}
        for truth in truths:
            for node, files in truth.files.items():
                seen.setdefault(node, set()).add(tuple(files))
        self.by_node = {node: next(iter(names)) if len(names) == 1 else None for node, names in seen.items()}

    def stage(self, stage: str) -> dict[str, Names | None]:
        """The files of a stage's results by label; None where they differ from state to state."""
        return {node.split("/")[1]: names for node, names in self.by_node.items() if node.startswith(f"{stage}/")}

    def paths(self, stage: str, label: str, part: str | None = None) -> list[str]:
        """The files of a result or a part of it; its folder where the files are not known beforehand."""
        place = place_of(stage, label)
        if self.stage_is_folder(stage):
            return [str(place)]
        names = self.by_node[f"{stage}/{label}"] or ()
        return [str(place / name) for name in names if part is None or name.startswith(f"{part}/")]

    def stage_is_folder(self, stage: str) -> bool:
        """Whether a stage's results can only be declared as folders."""
        return None in self.stage(stage).values()

    def outs(self, node: dict[str, Any], parts: set[str]) -> list[str]:
        """DVC's outs: the folder, or what lies in it where other stages use a part of it; of a table, its files."""
        place = place_of(node["stage"], node["label"])
        if node["stage"] != "table" and not parts:
            return [str(place)]
        names = self.by_node[f"{node['stage']}/{node['label']}"] or ()
        return sorted({str(place / name.split("/")[0]) for name in names})


def _rule(layout: Layout, node: dict[str, Any], label: str | None) -> str:
    """The text of one rule: of a whole stage, or of one result."""
    stage, shown = node["stage"], label or "{label}"
    name = re.sub(r"\W", "_", stage if label is None else f"{stage}_{label}")
    place = place_of(stage, shown)
    if stage == "table":
        output = [f'"tables/{shown}.{suffix}",' for suffix in ("csv", "md")]
    elif layout.stage_is_folder(stage):
        output = [f'directory("{place}"),']
    else:
        files = layout.by_node[f"{stage}/{node['label']}"] or ()
        output = [f'"{place / file}",' for file in files]
    given = f'"{stage}"' if label is None else f'"{stage}", "{label}"'
    told = "{wildcards.label}" if label is None else label
    lines = [
        f"rule {name}:",
        "    input:",
        f'        of("files", {given}),',
        f'        "{node["module"]}",',
        "    output:",
        *(f"        {line}" for line in output),
        "    params:",
        f'        settings=of("settings", {given}),',
        f'        execution=of("execution", {given}),',
        f'    threads: of("threads", {given})',
        "    message:",
        f'        "{stage} {told}"',
        "    shell:",
        f'        "python run.py {stage} {told}"',
    ]
    return "\n".join(lines) + "\n"


def snakefile(layout: Layout, graph: Graph) -> str:
    """One rule a stage; one a result where a stage's results hold differently named files, such as raw data."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for node in graph["nodes"].values():
        stages.setdefault(node["stage"], []).append(node)
    texts = [HEAD]
    for stage, nodes in stages.items():
        alike = len(set(layout.stage(stage).values())) == 1 or layout.stage_is_folder(stage) or stage == "table"
        texts += [_rule(layout, nodes[0], None)] if alike else [_rule(layout, node, node["label"]) for node in nodes]
    return "\n\n".join(texts)


def snakemake_graph(layout: Layout, graph: Graph) -> Graph:
    """What the Snakefile reads: of every result its input files, settings, and how it is carried out."""
    nodes = {}
    for name, node in graph["nodes"].items():
        told = {} if node["stage"] == "fetch" else dict(node["execution"])
        threads = told.pop("threads", 1)
        files = [path for stage, label, part in node["inputs"] for path in layout.paths(stage, label, part)]
        nodes[name] = {"files": files, "settings": node["settings"], "execution": told, "threads": threads}
    targets = [path for table in graph["targets"] for path in (f"tables/{table}.csv", f"tables/{table}.md")]
    return {"targets": targets, "nodes": nodes}


def dvc_name(node: str) -> str:
    """A result's name as DVC allows it for stages and params."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", node.replace("/", "__"))


def dvc_files(layout: Layout, graph: Graph) -> dict[str, str]:
    """The texts of dvc.yaml and params.yaml."""
    parts: dict[str, set[str]] = {name: set() for name in graph["nodes"]}
    for node in graph["nodes"].values():
        for stage, label, part in node["inputs"]:
            parts[f"{stage}/{label}"] |= {part} if part else set()
    stages, params = {}, {}
    for name, node in graph["nodes"].items():
        upstream = []
        for stage, label, part in node["inputs"]:
            outs = layout.outs(graph["nodes"][f"{stage}/{label}"], parts[f"{stage}/{label}"])
            upstream += outs if part is None else [str(place_of(stage, label) / part)]
        params[dvc_name(name)] = node["settings"]
        stages[dvc_name(name)] = {
            "cmd": f"python run.py {node['stage']} {node['label']}",
            "deps": sorted({*node["modules"], *upstream}),
            **({"params": [dvc_name(name)]} if node["settings"] else {}),
            "outs": layout.outs(node, parts[name]),
        }
    return {
        "dvc.yaml": yaml.safe_dump({"stages": stages}, sort_keys=False),
        "params.yaml": yaml.safe_dump(params, sort_keys=False),
    }
