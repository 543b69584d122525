"""What a job asks for, and on a cluster where it runs and with which other jobs it shares an allocation.

Amounts come from the scale (``execution.stages``), names from the cluster's file (``slurm/site.yaml``). Jobs that work
with the same checkpoint form a group, which Snakemake submits as one job and runs one after the other in it:

- ``tune-<finetune>``: a candidate's finetuning, and the answers that its learning rate is judged by, if they need as
  many GPUs; with fewer, the others would idle.
- ``ask-<select>``: the choice of a variant's learning rate, the answers of the chosen model to all benchmarks, and the
  comparison of its layers.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from lntune.config import Frozen
from lntune.config.load import shown, unknown_name, validate
from lntune.config.study import ClusterSettings, Stage
from lntune.errors import UserError
from lntune.plan.node import Node, Part, is_done
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.snakefile.speed import callback

GROUPED = ("finetune", "select", "predict", "similarity")
TURN = "turn"
"""Snakemake's name for what a grouped job takes and an allocation has one of, so that its jobs follow each other."""

_TO_LINK = {"mem_mb": 1000, "runtime": 5, "gpu": 0}
"""What linking a result takes."""

Resource = int | str | None


class _Site(Frozen):
    """What ``slurm/site.yaml`` holds besides values of the config."""

    cluster: ClusterSettings


def cluster_settings(root: Path, names: Mapping[str, Any], plan: Plan) -> ClusterSettings:
    """The cluster's names; UserError if one is unfit, or a stage for the login node does not exist or must not be."""
    file = root / "slurm" / "site.yaml"
    cluster = validate({"cluster": dict(names)}, _Site, file).cluster
    for place, name in enumerate(cluster.login_node):
        key = f"cluster.login_node[{place}]"
        if name not in STAGES:
            raise unknown_name(file, key, name, STAGES, "stage")
        if name in GROUPED or plan.scale.execution.of(name).gpus:
            raise UserError(f"{shown(file)}: {key}: {name} runs with a model's GPUs or beside them; leave it out")
    return cluster


class Allocations:
    """What the jobs of a plan are given.

    Args:
        plan: the results and the scale.
        cluster: the cluster's names; None where jobs run on this machine.
        will_link: whether a node's job will find its work done.
    """

    def __init__(self, plan: Plan, cluster: ClusterSettings | None, will_link: Callable[[Node], bool]) -> None:
        self.plan, self.cluster, self.will_link = plan, cluster, will_link

    def amounts(self, stage: str) -> Stage:
        """What the scale gives to a job of this stage."""
        return self.plan.scale.execution.of(stage)

    # --- groups ------------------------------------------------------------------------------------------------

    def group(self, node: Node) -> str | None:
        """The name of the group that a node's job belongs to, if it shares an allocation with others."""
        if self.cluster is None or node.stage not in GROUPED:
            return None
        if node.stage == "select":
            return f"ask-{node.name}"
        tuned = node if node.stage == "finetune" else node.inputs["tuned"]
        if isinstance(tuned, Part):
            return f"ask-{tuned.node.name}"
        assert isinstance(tuned, Node)
        same = self.amounts("finetune").gpus == self.amounts("predict").gpus
        return f"tune-{tuned.name}" if same else None

    @cached_property
    def _members(self) -> dict[str, list[Node]]:
        members: dict[str, list[Node]] = {}
        for node in self.plan.nodes():
            if name := self.group(node):
                members.setdefault(name, []).append(node)
        return members

    def _together(self, node: Node) -> Iterator[Node]:
        """The pending jobs that share the node's allocation."""
        name = self.group(node)
        shared = self._members.get(name, [node]) if name else [node]
        return (one for one in shared if one is node or not is_done(self.plan.store, one))

    # --- resources ---------------------------------------------------------------------------------------------

    def resources(self, node_of: Callable[[Any], Node]) -> dict[str, Any]:
        """What jobs need: memory (MB), time (minutes), GPUs, and where; ``node_of`` is given a job's wildcards.

        They are functions, which Snakemake calls again when a job's inputs are there, just before it is submitted. A
        job with GPUs that will find its work done then asks for next to nothing and queues for no GPU; None is no
        request.
        """

        def function(value: Callable[[Node], Resource]) -> Callable[[Any], Resource]:
            return callback(lambda wildcards: value(node_of(wildcards)))

        found: dict[str, Any] = {name: function(partial(self._amount, name)) for name in _TO_LINK}
        if self.cluster is None:
            return found
        found[TURN] = function(lambda node: 1 if node.stage in GROUPED else None)
        found["nodes"] = 1  # ranks are started on one node: SLURM may find the GPUs on two, if it is not told
        without, on = self.place(gpus=False), self.place(gpus=True)
        for name, value in on.items():
            if value != without[name]:
                found[name] = function(partial(self._placed, name))
            elif value is not None:
                found[name] = value
        return found

    def _amount(self, name: str, node: Node) -> int | None:
        given = self.amounts(node.stage)
        amount = given.gpus if name == "gpu" else getattr(given, name)
        if not given.gpus:
            return amount or None
        return min(amount, _TO_LINK[name]) if self.will_link(node) else amount

    def _placed(self, name: str, node: Node) -> Resource:
        # The same for all members of a group, as Snakemake wants it.
        gpus = any(self.amounts(one.stage).gpus and not self.will_link(one) for one in self._together(node))
        return self.place(gpus=gpus)[name]

    def place(self, *, gpus: bool) -> dict[str, Resource]:
        """The names that a job with or without GPUs gives to sbatch; None for what it leaves to the cluster."""
        assert self.cluster is not None
        cluster = self.cluster
        warning = cluster.warning_seconds
        return {
            "slurm_partition": (cluster.gpu_partition if gpus else None) or cluster.partition,
            "slurm_account": cluster.account,
            "qos": cluster.qos,
            "gpu_model": cluster.gpu_model if gpus else None,
            "slurm_extra": f"--signal=USR1@{warning}" if gpus and warning else None,
        }
