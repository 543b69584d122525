"""The three contestants: how each is set up, run, and asked what it did."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from checkout import job_counts
from matrix import replay
from matrix.edits import Tool, Workspace
from matrix.plain import Layout, dvc_files, dvc_name, snakefile, snakemake_graph
from matrix.replay import Contents, contents, of_table, place_of
from matrix.truth import Graph, Truth, copy, needed

# Not anchored: jobs write to the same stream, so a line of Snakemake's may follow half a line of theirs.
JOB = re.compile(r"Job \d+: (\S+) (\S+)")
RESULT = re.compile(r"-[0-9a-f]{12}$")
RUNNING = re.compile(r"^Running stage '(\S+)':", re.MULTILINE)
RESTORED = re.compile(r"^Stage '(\S+)' is cached - skipping run", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """The results, as ``stage/label``, that a tool made, and those that it took from elsewhere instead.

    ``vouched`` are those of the latter of which it knows that they were made under the present versions of packages.
    """

    made: frozenset[str]
    spared: frozenset[str] = frozenset()
    vouched: frozenset[str] = frozenset()


def _python_first() -> dict[str, str]:
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _run(command: list[str], root: Path, environment: dict[str, str]) -> str:
    """What a command prints; an error with its last lines if it fails."""
    done = subprocess.run(
        command, cwd=root, env=os.environ | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} failed in {root}:\n{done.stdout[-3000:]}")
    return done.stdout


class Lntune:
    """lntune's own workflow."""

    tool: Tool = "lntune"

    def __init__(self, finished: Path) -> None:
        self.finished = finished

    def open(self, root: Path) -> Workspace:
        """A copy of the finished checkout."""
        copy(self.finished, root)
        return Workspace(root, self.tool)

    def run(self, space: Workspace, graph: Graph, truth: Truth) -> Ran:
        """Make what is pending."""
        printed = space.snakemake("-c2")
        made: set[str] = set()
        linked: set[str] = set()
        for stage, name in JOB.findall(printed):
            if RESULT.search(name):
                log = (space.root / "logs" / stage / f"{name}.log").read_text()
                (linked if ": linked from " in log else made).add(f"{stage}/{RESULT.sub('', name)}")
        counts = job_counts(printed)
        number = sum(counts.values()) - counts.get("publish", 0) - counts.get("all", 0)
        assert len(made) + len(linked) == number, "jobs announced and jobs run differ"
        return Ran(frozenset(made), frozenset(linked), vouched=frozenset(linked))

    def contents(self, space: Workspace, graph: Graph) -> dict[str, Contents]:
        """The files of every result that the config asks for; of a table both the published and the stored ones."""
        found = {}
        for name in needed(graph):
            node = graph["nodes"][name]
            found[name] = contents(space.root / "results" / node["stage"] / f"{node['label']}-{node['id']}")
            if node["stage"] == "table":
                published = of_table(contents(space.root / "tables"), node["label"])
                found[name] = published if published == found[name] else published | {"in the store": "differs"}
        return found

    def verified(self, space: Workspace, graph: Graph, stale: list[str]) -> list[str] | None:
        """Those of the stale results that ``lntune verify`` names; None if there is no such command."""
        command = [sys.executable, "-m", "lntune", "verify"]
        environment = os.environ | {"PYTHONPATH": "src", "COLUMNS": "1000"}
        done = subprocess.run(command, cwd=space.root, env=environment, capture_output=True, text=True)
        if "No such command" in done.stderr:
            return None
        nodes = {name: graph["nodes"][name] for name in stale}
        return [name for name, node in nodes.items() if f"{name}-{node['id']}" in done.stdout + done.stderr]


class Plain:
    """What plain Snakemake and DVC share: fixed paths, and jobs that replay the truth."""

    tool: Tool

    def __init__(self, layout: Layout, finished: Path) -> None:
        self.layout = layout
        self.finished = finished

    def build(self, source: Path, graph: Graph, truth: Truth) -> None:
        """Set up a workspace from a checkout, and run it until everything is made."""
        self.finished.mkdir(parents=True)
        for name in ("src", "workflow", "config.yaml"):
            copy(source / name, self.finished / name)
        shutil.rmtree(self.finished / "workflow/weights")
        shutil.rmtree(self.finished / "workflow/rules")
        shutil.copy(replay.__file__, self.finished / "run.py")
        (self.finished / replay.TRUTH.parent).mkdir()
        space = Workspace(self.finished, self.tool)
        self.set_up(space, graph)
        made = self.run(space, graph, truth).made
        assert made == set(needed(graph)), sorted(made ^ set(needed(graph)))

    def set_up(self, space: Workspace, graph: Graph) -> None:
        """Write the workflow."""

    def refresh(self, space: Workspace, graph: Graph) -> None:
        """Write what an author's code works out from the config."""

    def invoke(self, space: Workspace, graph: Graph) -> Ran:
        """Run the tool."""
        raise NotImplementedError

    def open(self, root: Path) -> Workspace:
        """A copy of the finished workspace."""
        copy(self.finished, root)
        return Workspace(root, self.tool)

    def run(self, space: Workspace, graph: Graph, truth: Truth) -> Ran:
        """Make what the tool thinks is pending, in a world where ``truth`` holds."""
        (space.root / replay.TRUTH).write_text(str(truth.folder))
        log = space.root / replay.LOG
        log.write_text("")
        self.refresh(space, graph)
        ran = self.invoke(space, graph)
        assert sorted(log.read_text().split()) == sorted(ran.made), "the tool's words and the jobs' own log differ"
        return ran

    def contents(self, space: Workspace, graph: Graph) -> dict[str, Contents]:
        """The files of every result that the config asks for."""
        found = {}
        for name in needed(graph):
            stage, label = name.split("/")
            held = contents(space.root / place_of(stage, label))
            found[name] = of_table(held, label) if stage == "table" else held
        return found


class PlainSnakemake(Plain):
    """Snakemake with its default rerun triggers."""

    tool: Tool = "snakemake"

    def set_up(self, space: Workspace, graph: Graph) -> None:
        (space.root / "Snakefile").write_text(snakefile(self.layout, graph))

    def refresh(self, space: Workspace, graph: Graph) -> None:
        (space.root / "graph.json").write_text(json.dumps(snakemake_graph(self.layout, graph), indent=1))

    def invoke(self, space: Workspace, graph: Graph) -> Ran:
        printed = _run([sys.executable, "-m", "snakemake", "-c2"], space.root, _python_first())
        return Ran(frozenset(f"{stage}/{label}" for stage, label in JOB.findall(printed)))


class Dvc(Plain):
    """DVC with its default cache, outside git."""

    tool: Tool = "dvc"

    def __init__(self, layout: Layout, finished: Path, program: Path) -> None:
        super().__init__(layout, finished)
        self.program = program

    def _dvc(self, space: Workspace, *arguments: str) -> str:
        beside = space.root.with_name(f"{space.root.name}.site")  # what DVC knows of this very workspace
        settings = {"DVC_SITE_CACHE_DIR": str(beside), "DVC_NO_ANALYTICS": "1"}
        settings |= {"DVC_GLOBAL_CONFIG_DIR": str(beside / "global"), "DVC_SYSTEM_CONFIG_DIR": str(beside / "system")}
        return _run([str(self.program), *arguments], space.root, _python_first() | settings)

    def set_up(self, space: Workspace, graph: Graph) -> None:
        self._dvc(space, "init", "--no-scm", "--quiet")

    def open(self, root: Path) -> Workspace:
        space = super().open(root)
        self._dvc(space, "status")  # it has seen every file in its place, as in a folder that is in use
        return space

    def refresh(self, space: Workspace, graph: Graph) -> None:
        for name, text in dvc_files(self.layout, graph).items():
            (space.root / name).write_text(text)

    def invoke(self, space: Workspace, graph: Graph) -> Ran:
        names = {dvc_name(node): node for node in graph["nodes"]}
        printed = self._dvc(space, "repro", *(dvc_name(f"table/{table}") for table in graph["targets"]))
        return Ran(
            frozenset(names[name] for name in RUNNING.findall(printed)),
            frozenset(names[name] for name in RESTORED.findall(printed)),
        )
