"""What the Snakefile needs of a plan: targets, inputs of rules, resources, and which published files are stale.

Nothing here decides whether a result is right: the name of its folder does. Only files with fixed names, such as
tables/table3.csv, are compared with what they should hold.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from lntune.config import Frozen
from lntune.config.load import validate
from lntune.config.study import ClusterSettings
from lntune.errors import UserError
from lntune.jobs.spec import spec_path, write_specs
from lntune.jobs.submit import VARIABLE
from lntune.plan.demo_weights import RECIPES, DemoWeightsPlan
from lntune.plan.fetched import check_recorded
from lntune.plan.node import Node, can_link, manifest_path
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import files_of, is_right, result_node, targets_of
from lntune.snakefile.profiles import read_again
from lntune.snakefile.resources import Allocations, check_cluster
from lntune.snakefile.speed import callback
from lntune.store.layout import MANIFEST, Store
from lntune.store.leases import write_lease

SITE = Path("slurm") / "site.yaml"


def stop(error: UserError) -> NoReturn:
    """End Snakemake with one line and exit code 1."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def prepare_jobs(store: Store, nodes: Sequence[Node], *, warm: bool) -> None:
    """Before the first job: write the job specs, and start a fork server if jobs run on this machine."""
    write_specs(store, nodes)
    if warm:
        _start_warm()


class Workflow:
    """A plan as Snakemake sees it.

    Args:
        root: the checkout.
        overrides: what ``--config`` and the profile's file say; ``cluster`` is for the profile ``slurm`` alone.
        in_job: whether this Snakemake runs inside a cluster's job, and must ask for just what the job was given.
    """

    def __init__(self, root: Path, overrides: Mapping[str, Any], *, in_job: bool = False) -> None:
        given = dict(overrides)
        names = given.pop("cluster", None)
        try:
            self.plan = Plan(Study.read(root, read_again(given)))
            self.study = self.plan.study
            for name in self.study.settings.report_items:
                self.plan.report_item(name)
            check_recorded(self.plan.store, self.plan.nodes(), self.study.catalog_lock)
            self.cluster = None if names is None else _cluster(root, names, self.plan)
        except UserError as error:
            stop(error)
        self.allocations = Allocations(self.plan, self.cluster, self._will_link)
        self._running = in_job
        self._manifests: dict[Node, str] = {}

    @property
    def store(self) -> str:
        """The store's folder, as rules write it."""
        return str(self.study.store)

    def targets(self) -> list[str]:
        """Every published file and page of the config's tables and figures, and of what every study has besides."""
        return [str(target.file) for target in targets_of(self.plan, ())]

    def inputs(self, stage: str) -> Callable[[Any], list[str]]:
        """A rule's input function: the manifests that a result of this stage is made from.

        What a finished result was made from and is there no more is left out: Snakemake would make the result again
        as soon as anything else needs that input.
        """

        def manifests(wildcards: Any) -> list[str]:
            node = self._node(stage, wildcards.result)
            found = [self._manifest(parent) for parent in node.parents()]
            return [path for path in found if os.path.isfile(path)] if os.path.isfile(self._manifest(node)) else found

        return callback(manifests)

    def _manifest(self, node: Node) -> str:
        if node not in self._manifests:
            self._manifests[node] = str(manifest_path(self.plan.store, node))
        return self._manifests[node]

    def spec(self, stage: str) -> Callable[[Any], str]:
        """A rule's parameter: where the job spec of the job lies."""
        return callback(lambda wildcards: str(spec_path(self.plan.store, self._node(stage, wildcards.result))))

    def report_item(self, wildcards: Any) -> str:
        """The manifest of the table or figure that a published file shows."""
        file = self._published(wildcards)
        try:
            known = files_of(self.study, wildcards.name)
            if file not in known:
                raise UserError(f"{file}: there is none; there are {', '.join(map(str, known))}")
            return str(manifest_path(self.plan.store, self.plan.report_item(wildcards.name)))
        except UserError as error:
            stop(error)

    def _node(self, stage: str, name: str) -> Node:
        try:
            return result_node(self.plan, stage, name)
        except UserError as error:
            stop(error)

    def threads(self, stage: str) -> int:
        """CPU cores that a job of this stage is given."""
        return self.allocations.amounts(stage).threads

    def resources(self, stage: str) -> dict[str, Any]:
        """What a job of this stage is given besides, as a rule's ``resources``; on a cluster also where it runs."""
        return self.allocations.resources(stage, lambda wildcards: self._node(stage, wildcards.result))

    def group(self, stage: str) -> Callable[[Any], str | None] | None:
        """A rule's ``group``, on a cluster: jobs of one group share an allocation."""
        if self.cluster is None:
            return None
        return callback(lambda wildcards: self.allocations.group(self._node(stage, wildcards.result)))

    def local_rules(self) -> list[str]:
        """Rules whose jobs run beside Snakemake, also on a cluster."""
        return [stage.replace("-", "_") for stage in self.cluster.login_node] if self.cluster else []

    def _will_link(self, node: Node) -> bool:
        return self._running and can_link(self.plan.store, node)

    def withdrawn(self, wildcards: Any) -> list[str]:
        """What makes a published file that is there, and does not hold what it should, be published again.

        Snakemake runs a rule again when an input is newer than its output. So a wrong file gets such an input.
        """
        path = self._published(wildcards)
        return [] if not path.exists() or is_right(self.plan, path) else notice(path)

    @staticmethod
    def _published(wildcards: Any) -> Path:
        return Path(wildcards.folder) / f"{wildcards.name}.{wildcards.format}"

    def start(self, *, warm: bool) -> None:
        """Before the first job."""
        nodes = self.plan.nodes()
        try:
            write_lease(self.plan.store, self.study.root, [f"{node.stage}/{node.name}" for node in nodes])
        except OSError as error:
            print(f"warning: {error.filename}: {error.strerror}; `lntune gc` of others may not see this run",
                  file=sys.stderr)  # fmt: skip
        prepare_jobs(self.plan.store, nodes, warm=warm)
        self._running = True


def _cluster(root: Path, names: Mapping[str, Any], plan: Plan) -> ClusterSettings:
    """The cluster's names, checked."""
    file = root / SITE
    cluster = validate({"cluster": dict(names)}, _Site, file).cluster
    check_cluster(file, cluster, plan)
    return cluster


class _Site(Frozen):
    """What ``slurm/site.yaml`` holds besides values of the config."""

    cluster: ClusterSettings


class DemoWeightsWorkflow:
    """The plan of the demo's weights as Snakemake sees it (workflow/demo_weights.smk)."""

    def __init__(self, root: Path, overrides: Mapping[str, Any]) -> None:
        recipes = Path(overrides.get("recipes", RECIPES))
        self.results = Store(Path(overrides.get("store", "results")))
        try:
            self.plan = DemoWeightsPlan(root, recipes)
            self.nodes = {name: self.plan.node(name) for name in self.plan.names()}
        except UserError as error:
            stop(error)
        self._by_name = {(node.stage, node.name): node for node in self.nodes.values()}

    @property
    def store(self) -> str:
        """The store's folder, as rules write it."""
        return str(self.results.root)

    def targets(self) -> list[str]:
        """The manifests of all recipes."""
        return [str(manifest_path(self.results, node)) for node in self.nodes.values()]

    def inputs(self, wildcards: Any) -> list[str]:
        """The base model's manifest, for an LLM that goes on from one."""
        parents = self._by_name[wildcards.stage, wildcards.result].parents()
        return [str(manifest_path(self.results, parent)) for parent in parents]

    def spec(self, wildcards: Any) -> str:
        """Where the job spec of the job lies."""
        return str(spec_path(self.results, self._by_name[wildcards.stage, wildcards.result]))

    def start(self, *, warm: bool) -> None:
        """Before the first job."""
        prepare_jobs(self.results, list(self.nodes.values()), warm=warm)

    def publish(self, pin: Callable[..., object]) -> None:
        """Put the weights into the repository and the catalogue, unless a test asked for other recipes.

        ``pin`` enters a folder into the catalogue (lntune.commands.pin).
        """
        if self.plan.file == self.plan.root / RECIPES:
            for name, node in self.nodes.items():
                self._publish(name, node, pin)

    def _publish(self, name: str, node: Node, pin: Callable[..., object]) -> None:
        """Put a finished result's weights into the repository and their digests into the catalogue."""
        result, target = manifest_path(self.results, node).parent, self.plan.root / "workflow" / "weights" / name
        target.mkdir(parents=True, exist_ok=True)
        for file in _WEIGHT_FILES:
            if (result / file).is_file():
                shutil.copyfile(result / file, target / file)
        shutil.copyfile(result / MANIFEST, target / _RECORD)
        licence = self.plan.settings.licence
        pin(self.plan.root, f"demo-{name}", target, _ABOUT[node.stage], licence, leave_out={_RECORD})


_RECORD = "record.json"
"""The manifest of the training, beside the weights."""
_WEIGHT_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "open_clip_config.json",
    "open_clip_model.safetensors",
)  # fmt: skip
_ABOUT = {
    "train-clip": "the demo's CLIP, trained contrastively on drawn images and their captions",
    "train-vit": "the demo's ImageNet-style ViT, trained to classify drawn images",
    "train-llm": "the demo's LLM in this role, trained on text alone",
}


def notice(path: Path) -> list[str]:
    """An input that is newer than a published file: an empty file in a temporary folder, as new as this process.

    It ends with the process, so a dry-run leaves no trace.
    """
    # In a folder of its own: Snakemake lists a folder once, and would miss the next file's notice.
    made = Path(_temporary_folder()) / path / "does-not-hold-what-it-should"
    made.parent.mkdir(parents=True, exist_ok=True)
    made.touch()
    return [str(made)]


@cache
def _temporary_folder() -> str:
    """A folder of this process's own, which ends with it."""
    folder = tempfile.mkdtemp(prefix="lntune-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _start_warm() -> None:
    """Start the light fork server, which starts the heavy one when it is needed; it ends with this one."""
    folder = _temporary_folder()
    process = subprocess.Popen(
        [sys.executable, "-m", "lntune.jobs.fork_server", "light", folder, str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.environ[VARIABLE] = folder

    def end() -> None:
        process.terminate()
        process.wait()

    atexit.register(end)
