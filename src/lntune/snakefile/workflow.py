"""What the Snakefile needs of a plan: targets, inputs of rules, resources, and which published files are stale.

Nothing here decides whether a result is right: the name of its folder does. Only files with fixed names, such as
tables/table3.csv, are compared with what they should hold.
"""

import atexit
import fnmatch
import inspect
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

from lntune.config.study import TrackingSettings
from lntune.errors import UserError
from lntune.files import write_whole
from lntune.jobs.fork_server import start as start_fork_servers
from lntune.jobs.states import announced
from lntune.plan.fetched import check_recorded
from lntune.plan.forecast import Forecast
from lntune.plan.node import Node, can_link, input_folders, is_done, manifest_path, result_folder
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.plan.study import Study, once
from lntune.plan.targets import files_of, is_right, result_node, targets_of
from lntune.site.address import INDEX
from lntune.site.record import is_right as site_is_right
from lntune.snakefile.bars import start_bars
from lntune.snakefile.profiles import read_again
from lntune.snakefile.resources import Allocations, cluster_settings
from lntune.snakefile.speed import callback
from lntune.store.fingerprint import raw_digest
from lntune.store.leases import run_lock, write_lease
from lntune.store.manifest import Store
from lntune.store.reuse import check_whole
from lntune.store.sharing import one_line, open_to_group


def delete_nothing() -> None:
    """Make Snakemake leave what lies where a job's outputs and its log go, before the job starts and after it failed.

    Snakemake deletes it, which is right for files that may be half written. Ours are put in their place whole, by a
    rename, and one that is there may be another's: of a second run in this folder, or of a job that outlived its run.
    Nor is an output compared in time with its inputs, which the other run touches whenever it sees them finished.
    """
    from snakemake.dag import DAG
    from snakemake.jobs import Job

    async def nothing(*_: object) -> None:
        pass

    for owner, name in ((Job, "remove_existing_output"), (Job, "cleanup"), (DAG, "check_output_mtime")):
        assert inspect.iscoroutinefunction(getattr(owner, name, None)), f"this Snakemake has no {owner}.{name}"
        setattr(owner, name, nothing)


def ignore_damaged_records() -> None:
    """Make Snakemake take a record of its own that is damaged for none, as it does where that is no JSON.

    Nothing here follows from them, and one flipped bit that is no UTF-8, or no record, would end every later run.
    """
    from snakemake.persistence.file import FilePersistence

    def or_none(read: Callable[..., Any], none: Any) -> Callable[..., Any]:
        def guarded(*given: Any) -> Any:
            try:
                return read(*given)
            except ValueError:
                return none

        return guarded

    FilePersistence._io_read = or_none(FilePersistence._io_read, {})
    FilePersistence._read_record = or_none(FilePersistence._read_record, None)


def spec_path(store: Store, node: Node) -> Path:
    """Where a node's job spec lies."""
    return store.root / ".jobs" / node.stage / f"{node.name}.json"


def write_specs(
    store: Store, nodes: Iterable[Node], inputs: Store | None = None, tracking: TrackingSettings | None = None
) -> None:
    """Write what :mod:`lntune.jobs.run` needs to make each result that is missing, from what ``inputs`` holds."""
    source = raw_digest("lntune")
    for node in nodes:
        if is_done(store, node):
            continue
        code_version = node.code_version
        spec = {
            "stage": node.stage,
            "label": node.label,
            "id": node.id,
            "module": STAGES[node.stage],
            "store": store.root,
            "identity": node.identity.document(),
            "source": source,
            "code": dict(code_version.code),
            "packages": dict(code_version.packages),
            "accepted": [edit.model_dump(mode="json") for edit in code_version.accepted],
            "execution": node.execution.model_dump(mode="json"),
            "inputs": input_folders(inputs or store, node),
        }
        if tracking and tracking.to and node.stage in ("connector", "finetune"):
            spec["tracking"] = tracking.model_dump(mode="json")
        path = spec_path(store, node)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(spec, default=str))  # folders as text


class StageRules:
    """What the rules of stages need of the nodes that they can make: inputs by role, the job spec, how a job is run."""

    def __init__(self, store: Store, nodes: Iterable[Node]) -> None:
        with one_line():
            if not os.access(".snakemake" if os.path.exists(".snakemake") else ".", os.W_OK):
                raise UserError(f"{os.getcwd()}: cannot be written; run in a folder of your own: `snakemake -d FOLDER`")
            if os.pathsep in __file__:
                raise UserError(
                    f"{Path(__file__).parents[3]}: has a colon, which ends a folder in PYTHONPATH; rename it"
                )
        open_to_group(store.root)  # and with it all jobs, which inherit it
        self.results, self.store = store, str(store.root)
        self.tracking: TrackingSettings | None = None
        self._by_name = {node.name: node for node in nodes}
        # exec: no shell stands between Snakemake and a job that a signal is meant for. What shell lines are made of are
        # functions: elsewhere Snakemake takes a brace in the path of a checkout or of its Python for a wildcard.
        self.run = callback(lambda wildcards: f"exec {shlex.quote(sys.executable)} -m lntune.jobs.submit")
        self.spec = callback(lambda wildcards: self._spec_of(self.node(wildcards)))
        self.threads: int | Callable[[Any], int] = 1
        self.resources: dict[str, Any] = {}
        self.group: Callable[[Any], str | None] | None = None

    def nodes(self) -> list[Node]:
        """All results that rules can make, so far."""
        return list(self._by_name.values())

    def node(self, wildcards: Any) -> Node:
        """The result that a job makes; its name is found in all stages, since it ends with a hash."""
        return self._by_name[wildcards.result]

    def _spec_of(self, node: Node) -> str:
        """A rule's parameter: what submit runs, a job spec, and whether its libraries are those of the torch server."""
        path = shlex.quote(str(spec_path(self.results, node)))
        return path if {"torch", "transformers"}.isdisjoint(node.code_version.packages) else f"--torch {path}"

    def find(self, stage: str, name: str) -> Node:
        """The result of this name; UserError if the stage has none."""
        node = self._by_name.get(name)
        if node is None or node.stage != stage:
            raise UserError(f"{stage}/{name}: is no result of this config")
        return node

    def inputs(self, stage: str, **roles: str) -> Any:
        """A rule's inputs: for each role the manifests that play it, none of which makes a job run again by its time.

        What a finished result was made from and is there no more is left out: Snakemake would make the result again
        as soon as anything else needs that input.

        ``roles`` are the stages, or patterns of them (``questions-*``), that may stand behind each role; first
        ``optional`` where some results have no such input.
        """
        from snakemake.io import ancient, unpack

        optional = {role for role, text in roles.items() if text.split()[:1] == ["optional"]}
        with one_line():
            stated = {role: _stated(stage, role, text.split()[role in optional :]) for role, text in roles.items()}

        def manifests(wildcards: Any) -> dict[str, list[str]]:
            with one_line():
                node = self._by_name[wildcards.result] = self.find(stage, wildcards.result)
                _check_inputs(node, stated, optional)
                done = Path(self._manifest(node)).is_file()  # raises where a folder is closed
            found = {role: [self._manifest(parent) for parent in node.players(role)] for role in stated}
            if done:
                found = {role: [path for path in paths if os.path.isfile(path)] for role, paths in found.items()}
            return {role: ancient(paths) for role, paths in found.items()}

        return unpack(callback(manifests))

    @once
    def _manifest(self, node: Node) -> str:
        return str(manifest_path(self.results, node))

    def start(self, *, fork_server: bool, jobs: Iterable[Any] | None = None, at_once: int | None = None) -> None:
        """Before the first job: show that a run is at work here, write the job specs, start a fork server if needed.

        ``jobs`` are those that Snakemake will run; None: all. No others get a spec, which another user may have there.
        ``at_once`` of them run at the same time.
        """
        ours = None if jobs is None else {job.wildcards.get("result") for job in jobs}
        with one_line():
            _hold_run_lock(Path.cwd())
            made = [node for node in self.nodes() if ours is None or node.name in ours]
            write_specs(self.results, made, tracking=self.tracking)
        store = self.results.root.absolute()  # Snakemake goes back to where it was started before this process ends
        _announce_run(str(store), tuple(node.path for node in made))
        start_bars(store, {node.path: partial(self.expected, node) for node in made}, at_once or 1)
        if fork_server:
            start_fork_servers(any(node.environment for node in self.nodes()))

    def expected(self, node: Node) -> float | None:
        """Seconds that a job is expected to take; None where nobody knows."""
        return None


def _stated(stage: str, role: str, names: Sequence[str]) -> set[str]:
    """The stages that a rule states behind a role; UserError if it names one that does not exist."""
    for name in (stage, *names):
        if not fnmatch.filter(STAGES, name):
            raise UserError(f"rule of {stage}: {role}: there is no stage {name!r}; see lntune.plan.stages")
    return {one for name in names for one in fnmatch.filter(STAGES, name)}


def _check_inputs(node: Node, stated: Mapping[str, Collection[str]], optional: Collection[str]) -> None:
    """UserError where the roles of a node's inputs, or the stages behind them, are not those that its rule states."""
    rule = f"rule of {node.stage} (workflow/rules)"
    for role in node.inputs:
        players = node.players(role)
        if players and role not in stated:
            raise UserError(f"{rule}: states no {role}, which {node.name} is made from ({players[0].stage})")
        for player in players:
            if player.stage not in stated[role]:
                known = " or ".join(sorted(stated[role]))
                raise UserError(f"{rule}: states {known} as {role}, but {node.name} has a {player.stage} there")
    for role in stated:
        if role not in optional and not node.players(role):
            raise UserError(f"{rule}: states {role}, but {node.name} has no such input")


class Workflow(StageRules):
    """A study's plan as Snakemake sees it.

    ``overrides`` are what ``--config`` and the profile's file say, ``cluster`` for the profile ``slurm`` alone.
    ``in_job``: this Snakemake runs inside a cluster's job, and must ask for just what the job was given.
    """

    def __init__(self, root: Path, overrides: Mapping[str, Any], *, in_job: bool = False) -> None:
        given = dict(overrides)
        names = given.pop("cluster", None)
        with one_line():
            overrides = read_again(given)
            self.plan = Plan(Study.read(root, overrides))
            self.study = self.plan.study
            for name in self.study.settings.report_items:
                self.plan.report_item(name)
            check_recorded(self.plan.store, self.plan.nodes(), self.study.catalog_lock)
            self.cluster = None if names is None else cluster_settings(root, names, self.plan)
            if self.cluster and shlex.quote(sys.executable) != sys.executable:
                raise UserError(
                    f"{sys.executable}: is not quoted where SLURM starts it; make .venv in a plainer folder"
                )
        super().__init__(self.plan.store, self.plan.nodes())
        self.write_site = callback(
            lambda wildcards: shlex.join([sys.executable, "-m", "lntune.site", str(root), json.dumps(overrides)])
        )
        self.tracking = self.study.settings.tracking
        self.allocations = Allocations(self.plan, self.cluster, in_job=in_job)
        self.threads = callback(lambda wildcards: self.allocations.amounts(self.node(wildcards)).threads)
        self.resources = self.allocations.resources(self.node)
        if self.cluster is not None:  # jobs of one group share an allocation
            self.group = callback(lambda wildcards: self.allocations.group(self.node(wildcards)))

    def targets(self) -> list[str]:
        """Every published file of the config's tables and figures, and of what every study has besides."""
        return [str(target.file) for target in targets_of(self.plan, ())]

    def nodes(self) -> list[Node]:
        """All results that the plan has, so far."""
        return self.plan.nodes()

    def find(self, stage: str, name: str) -> Node:
        """The result of this name, whichever table or figure rests on it; UserError if the stage has none."""
        return result_node(self.plan, stage, name)

    def report_item(self, wildcards: Any) -> str:
        """The manifest of the table or figure that a published file shows."""
        file = self._published(wildcards)
        with one_line():
            known = files_of(self.study, wildcards.name)
            if file not in known:
                raise UserError(f"{file}: there is none; there are {', '.join(map(str, known))}")
            node = self.plan.report_item(wildcards.name)
            if is_done(self.plan.store, node):
                self._check_whole(node)
            return self._manifest(node)

    @once
    def _check_whole(self, node: Node) -> None:
        """UserError if a table or figure does not hold what its manifest says: its bytes are about to be shown."""
        check_whole(result_folder(self.plan.store, node))

    def local_rules(self) -> list[str]:
        """Rules whose jobs run next to Snakemake, also on a cluster."""
        return [stage.replace("-", "_") for stage in self.cluster.login_node] if self.cluster else []

    def stale(self, wildcards: Any) -> list[str]:
        """What makes a published file that is there, and does not hold what it should, be published again.

        Snakemake runs a rule again when an input is newer than its output. So a wrong file gets such an input: an empty
        file that ends with this process, so that a dry-run leaves no trace.
        """
        path = self._published(wildcards)
        with one_line():
            return self._trigger(path) if path.exists() and not is_right(self.plan, path) else []

    def stale_site(self, wildcards: Any) -> list[str]:
        """The same of the site."""
        with one_line():
            return self._trigger(INDEX) if INDEX.exists() and not site_is_right(self.plan) else []

    @staticmethod
    def _trigger(path: Path) -> list[str]:
        # In a folder of its own: Snakemake lists a folder once, and would miss the next file's trigger.
        made = Path(_temporary_folder()) / path / "does-not-hold-what-it-should"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
        after = path.stat().st_mtime + 1  # which is ahead of now if the clock was
        os.utime(made, (after, after))
        return [str(made)]

    @staticmethod
    def _published(wildcards: Any) -> Path:
        return Path(wildcards.folder) / f"{wildcards.name}.{wildcards.format}"

    def expected(self, node: Node) -> float | None:
        """What ``lntune plan`` says of a job, but for one that is counted at its time limit."""
        found = self._forecast().of(node)
        linked = can_link(self.plan.store, node)
        return 0.0 if linked else None if found.basis == "limit" else found.chance * found.seconds

    @once
    def _forecast(self) -> Forecast:
        return Forecast(self.plan)

    def start(self, *, fork_server: bool, jobs: Iterable[Any] | None = None, at_once: int | None = None) -> None:
        """Before the first job: also a lease, so that `lntune gc` of others spares what this run needs."""
        try:
            write_lease(self.plan.store, Path.cwd(), [node.path for node in self.nodes()])
        except OSError as error:
            print(f"warning: {error.filename}: {error.strerror}; `lntune gc` of others may not see this run",
                  file=sys.stderr)  # fmt: skip
        super().start(fork_server=fork_server, jobs=jobs, at_once=at_once)
        self.allocations.running = True


@cache
def _hold_run_lock(checkout: Path) -> None:
    held = ExitStack()
    held.enter_context(run_lock(checkout))
    atexit.register(held.close)


@cache
def _announce_run(store: str, jobs: tuple[str, ...]) -> None:
    held = ExitStack()
    held.enter_context(announced(store, jobs))
    atexit.register(held.close)


@cache
def _temporary_folder() -> str:
    """A folder of this process's own, which ends with it."""
    folder = tempfile.mkdtemp(prefix="lntune-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
