"""What a job asks for, and on a cluster where it runs and with which other jobs it shares an allocation.

Amounts come from the scale (``execution.stages``), names from the cluster's file (``slurm/site.yaml``). Jobs that work
with the same checkpoint form a group, which Snakemake submits as one (docs/cluster-jobs.md says which, and how a job's
time follows from its forecast).
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from math import ceil, inf
from pathlib import Path
from typing import Any

from lntune.config import Frozen
from lntune.config.load import shown, unknown_name, validate
from lntune.config.study import ClusterSettings, Stage
from lntune.errors import UserError
from lntune.estimate.hours import STARTED, STARTING, STORE_SPEED
from lntune.plan.forecast import Expected, Forecast
from lntune.plan.node import Node, Part, can_link, is_done
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.plan.study import once
from lntune.snakefile.speed import callback
from lntune.store.record import output_of

GROUPED = ("finetune", "select", "predict", "similarity")
TURN = "turn"
"""Snakemake's name for what a grouped job takes and an allocation has one of, so that its jobs follow each other."""

MARGIN, SPARE = 1.5, 10
"""What a job asks for: so many times its expected time, which may be too low, and so many minutes."""

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


def asked_minutes(expected: Expected, given: Stage) -> int:
    """Minutes that a job asks for at its first attempt, if its partition allows for them."""
    return given.runtime if expected.basis == "limit" else ceil(MARGIN * expected.seconds / 60) + SPARE


def most_minutes(cluster: ClusterSettings, *, gpus: bool) -> float:
    """Minutes that the partition of jobs with or without GPUs allows, as far as the site's file says."""
    own = gpus and (cluster.gpu_time_limit or cluster.gpu_partition)
    return (cluster.gpu_time_limit if own else cluster.time_limit) or inf


class Allocations:
    """What the jobs of a plan are given: amounts, and on a cluster where.

    ``cluster`` is None where jobs run on this machine; ``in_job`` says that this is a cluster's job itself, in which
    nobody asks for time, and what it was given is given. ``running`` is set when the first job is about to start.
    """

    def __init__(self, plan: Plan, cluster: ClusterSettings | None, *, in_job: bool) -> None:
        self.plan, self.cluster, self._in_job, self.running = plan, cluster, in_job, in_job
        self._expected = Forecast(plan).of if cluster and not in_job else None
        self._most = partial(most_minutes, cluster or ClusterSettings())

    def amounts(self, node: Node) -> Stage:
        """What a job is given: what its stage is, or a training on fewer GPUs its part of that."""
        given = self.plan.scale.execution.of(node.stage)
        on_ranks = getattr(node.execution, "engine", "") == "deepspeed"
        return given.on(getattr(node.execution, "ranks", given.gpus)) if on_ranks else given

    def will_link(self, node: Node) -> bool:
        """Whether a node's job will find its work done."""
        return self.running and can_link(self.plan.store, node)

    # --- groups ------------------------------------------------------------------------------------------------

    def group(self, node: Node) -> str | None:
        """The name of the group that a node's job belongs to, if it shares an allocation with others."""
        name = self._shared(node)
        return name if name and self._minutes(name)[1] <= self._most(gpus=True) else None

    def _shared(self, node: Node) -> str | None:
        """The name of the group that a node's job would belong to if the cluster allowed for any time."""
        if self.cluster is None or node.stage not in GROUPED:
            return None
        if node.stage == "select":
            return f"ask-{node.name}"
        tuned = node if node.stage == "finetune" else node.inputs["tuned"]
        if isinstance(tuned, Part):
            return f"ask-{tuned.node.name}"
        assert isinstance(tuned, Node)
        same = self.amounts(tuned).gpus == self.plan.scale.execution.of("predict").gpus
        return f"tune-{tuned.name}" if same else None

    @cached_property
    def _members(self) -> dict[str | None, list[Node]]:
        members = defaultdict(list)
        for node in self.plan.nodes():
            members[self._shared(node)].append(node)
        return members

    def _pending(self, nodes: Iterable[Node]) -> list[Node]:
        return [node for node in nodes if not is_done(self.plan.store, node)]

    # --- time --------------------------------------------------------------------------------------------------

    def _known(self, node: Node) -> Expected | None:
        expected = self._expected(node) if self._expected else None
        return expected if expected and expected.basis != "limit" else None

    def _asked(self, node: Node) -> int:
        expected, given = self._known(node), self.amounts(node)
        return asked_minutes(expected, given) if expected else given.runtime

    @once
    def _minutes(self, group: str) -> tuple[int, int]:
        """Minutes that a group's jobs ask for that were pending when it was first looked at; by the forecast alone."""
        ones = self._pending(self._members.get(group, ()))
        return sum(map(self._asked, ones)), sum(map(self._asked, filter(self._known, ones)))

    def runtime(self, node: Node, attempt: int = 1) -> int:
        """Minutes that a job asks for; of a forecast twice as many at each attempt, as far as its partition allows."""
        gpus, group = self.amounts(node).gpus, self.group(node)
        if gpus and self.will_link(node):
            return _TO_LINK["runtime"]
        asked = self._asked(node)
        together = max(self._minutes(group)[0], asked) if group else asked
        most = self._most(gpus=bool(group or gpus))
        return max(int(asked * min(2 ** (attempt - 1) if self._known(node) else 1, most / together)), 1)

    def attempts(self, stage: str) -> int:
        """How many allocations the longest pending training of a stage needs, each as long as its partition allows."""
        most = self._most(gpus=True) * 60
        pending = self._pending(node for node in self.plan.nodes() if node.stage == stage)
        expected = map(self._expected, pending) if self._expected else ()
        left = ((one, most - one.waste.get(STARTING, STARTED) - self._warning(one)) for one in expected)
        return max([1, *(ceil(MARGIN * one.seconds / max(seconds, 60.0)) for one, seconds in left)])

    def _warning(self, expected: Expected) -> int:
        """Seconds before its limit at which a training is told to write its checkpoint and end; 0: it is not told."""
        assert self.cluster is not None
        seconds = self.cluster.warning_seconds
        return min(seconds + ceil(expected.checkpoint / STORE_SPEED), 65535) if seconds else 0

    # --- resources ---------------------------------------------------------------------------------------------

    def resources(self, node_of: Callable[[Any], Node]) -> dict[str, Any]:
        """What jobs need: memory (MB), time (minutes), GPUs, and where; ``node_of`` is given a job's wildcards.

        Snakemake calls these functions again just before a job is submitted: one with GPUs that will find its work done
        then asks for next to nothing and queues for no GPU. None is no request.
        """

        def function(value: Callable[[Node], Resource]) -> Callable[[Any], Resource]:
            return callback(lambda wildcards: value(node_of(wildcards)))

        found: dict[str, Any] = {name: function(partial(self._amount, name)) for name in ("mem_mb", "gpu")}
        found["runtime"] = callback(lambda wildcards, attempt=1: self.runtime(node_of(wildcards), attempt))
        if self.cluster is None:
            return found
        found[TURN] = function(lambda node: 1 if node.stage in GROUPED else None)
        found["nodes"] = 1  # ranks are started on one node: SLURM may find the GPUs on two, if it is not told
        without, on = self.place(gpus=False), self.place(gpus=True, warning=self.cluster.warning_seconds)
        for name, value in on.items():
            if name == "slurm_extra" or value != without[name]:
                found[name] = function(partial(self._placed, name))
            elif value is not None:
                found[name] = value
        return found

    def _amount(self, name: str, node: Node) -> int | None:
        given = self.amounts(node)
        amount = given.gpus if name == "gpu" else getattr(given, name)
        if not given.gpus:
            return amount or None
        return min(amount, _TO_LINK[name]) if self.will_link(node) else amount

    def _placed(self, name: str, node: Node) -> Resource:
        # The same for all members of a group, as Snakemake wants it.
        group = self.group(node)
        together = [node, *self._pending(self._members[group])] if group else [node]
        gpus = any(self.amounts(one).gpus and not self.will_link(one) for one in together)
        warnings = [self._warning(self._expected(one)) for one in together] if self._expected else []
        found = self.place(gpus=gpus, warning=max(warnings, default=0))[name]
        if name == "slurm_extra" and self.running and not self._in_job:
            return f"{found or ''} {self._after_earlier(group or node.name)}".strip() or None
        return found

    def _after_earlier(self, name: str) -> str:
        """The option with which a result's or group's job waits for those that an earlier run here left in the queue.

        They make the result, or leave checkpoints; beside one that runs, the job would hold its GPUs idle.
        """
        earlier = [job for job, comment in self._queue if name in comment]
        return f"--dependency=afterany:{':'.join(earlier)}" if earlier else ""

    @cached_property
    def _queue(self) -> list[tuple[str, str]]:
        """The user's jobs that were in the queue before this run's first, from this folder: number, what they make."""
        listed = output_of("squeue", "--me", "--noheader", "--format=%i\t%Z\t%k")
        # Without an answer a job waits for the other's lock when both have begun.
        jobs = [line.split("\t", 2) for line in (listed or "").splitlines()]
        return [(job[0], job[2]) for job in jobs if len(job) == 3 and job[1] == os.getcwd()]

    def place(self, *, gpus: bool, warning: int = 0) -> dict[str, Resource]:
        """What a job with or without GPUs gives to sbatch besides amounts; None for what it leaves to the cluster."""
        assert self.cluster is not None
        cluster = self.cluster
        return {
            "slurm_partition": (cluster.gpu_partition if gpus else None) or cluster.partition,
            "slurm_account": cluster.account,
            "qos": cluster.qos,
            "gpu_model": cluster.gpu_model if gpus else None,
            "slurm_extra": f"--signal=USR1@{warning}" if gpus and warning else None,
        }
