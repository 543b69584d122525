"""What is pending for some targets, why, and what it will take; ``lntune plan`` prints it, ``lntune doctor`` checks it.

    work = pending(Plan(Study.read(Path("."))), ["tables/table3.csv"])

What counts as pending is what ``snakemake -n`` lists: results that are not there and that something pending needs.
What a finished result was made from is not made again, even if it was deleted.

What a job will take is lntune.plan.forecast's to say.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path

from lntune.plan.fetched import check_recorded, to_fetch
from lntune.plan.forecast import Expected, Forecast
from lntune.plan.node import Node, Reason, can_link, closure, is_done, why
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.plan.targets import is_right, targets_of
from lntune.store.job import EARLIER
from lntune.store.reuse import ResultIndex


@dataclass(frozen=True, kw_only=True)
class Pending(Expected):
    """One result that is to be made, and what it will take.

    ``linked`` says that its work has been done already, so that it costs nothing; ``may_link`` that it has if its
    pending inputs come out as they were. Of a fetch, ``download`` and ``copy`` are the bytes that come from elsewhere
    and from this machine's disks, and ``unknown`` the number of files to download whose size nobody knows yet.
    """

    stage: str
    name: str
    reasons: tuple[Reason, ...]
    download: int
    copy: int
    unknown: int
    linked: bool
    may_link: bool


def summed(results: Iterable[Pending]) -> tuple[float, int]:
    """Seconds and bytes that are expected of results that are not linked."""
    computed = [result for result in results if not result.linked]
    seconds = sum(one.chance * one.seconds for one in computed)
    return seconds, round(sum(one.chance * (one.bytes or 0) for one in computed))


@dataclass(frozen=True)
class PendingWork:
    """All that is to be made for some targets, and the files that are to be published.

    ``checkpoint_bytes`` is what the checkpoints of the jobs that run at once may take, over the results' bytes: two of
    each job, since one is written whole before the one before it is deleted; and ``waiting_bytes`` what those may that
    the first round of searches leaves to the next. A node is taken to have as many GPUs,
    ``node_gpus``, as the scale's largest stage asks for; ``wall_seconds`` is the time that so many ``nodes`` take.
    """

    scale: str
    targets: tuple[str, ...]
    results: tuple[Pending, ...]
    done: Mapping[str, int]
    publish: Mapping[str, str]
    free_bytes: int
    checkpoint_bytes: int
    waiting_bytes: int
    node_gpus: int
    nodes: int | None
    wall_seconds: float | None

    @property
    def asked(self) -> str:
        """The targets in a few words, and the scale."""
        more = f" and {len(self.targets) - 4} more" if len(self.targets) > 4 else ""
        return f"{', '.join(self.targets[:4])}{more} (scale {self.scale})"

    def jobs(self) -> dict[str, int]:
        """Jobs by stage, and of ``publish``; as ``snakemake -n`` counts them, but for its rule ``all``."""
        found = Counter(result.stage for result in self.results)
        found.update("publish" for _ in self.publish)
        return dict(found)


def pending(plan: Plan, targets: Sequence[str], at_once: int = 1, hosts: int | None = None) -> PendingWork:
    """What is pending for the targets (:func:`lntune.plan.targets.targets_of`), in the order in which it can be made.

    At most ``at_once`` jobs run at the same time, those with GPUs on so many ``hosts``, if that is said. UserError if a
    target is unknown, or a fetched file is not what was recorded.
    """
    asked = targets_of(plan, targets)
    nodes = closure([target.node for target in asked])
    check_recorded(plan.store, nodes, plan.study.catalog_lock)
    published = {
        str(target.file): "not what it should be" if target.file.exists() else "not there"
        for target in asked
        if target.file and not is_right(plan, target.file)
    }
    needed = {target.node for target in asked if target.file is None or str(target.file) in published}
    missing = []
    done: Counter[str] = Counter()
    for node in reversed(nodes):  # what needs a result comes before it
        if is_done(plan.store, node):
            done[node.stage] += 1
        elif node in needed:
            missing.append(node)
            needed |= {*node.parents()}
    results = tuple(_results(plan, missing[::-1]))
    checkpoints = sorted(one.checkpoint for one in results if not one.linked)
    execution = plan.scale.execution
    node_gpus = max(stage.gpus for stage in (execution.default, *execution.stages.values()))
    if hosts is not None:
        least = min((one.gpus for one in results if one.checkpoint and one.gpus), default=1)
        at_once = min(at_once, hosts * node_gpus // least)
    return PendingWork(
        scale=plan.study.settings.scale,
        targets=tuple(str(target.file or target.node.path) for target in asked),
        results=results,
        done=done,
        publish=published,
        free_bytes=shutil.disk_usage(nearest_folder(plan.store.root)).free,
        checkpoint_bytes=2 * sum(checkpoints[-at_once:]) if at_once else 0,
        waiting_bytes=sum(
            one.checkpoint
            for node, one in zip(missing[::-1], results, strict=True)
            if getattr(node.settings, "until", None) and EARLIER not in node.inputs and not one.linked
        ),
        node_gpus=node_gpus,
        nodes=hosts,
        wall_seconds=hosts and _wall_seconds(dict(zip(missing[::-1], results, strict=True)), [node_gpus] * hosts),
    )


def _wall_seconds(jobs: Mapping[Node, Pending], free: list[int]) -> float:
    """Seconds until all jobs are done on hosts with so many ``free`` GPUs each, and enough cores for all else.

    Every job starts once its inputs are there and a host has its GPUs; those that come first in the plan come first.
    """
    sorter = TopologicalSorter({node: [one for one in node.parents() if one in jobs] for node in jobs})
    sorter.prepare()
    order, place, now = [*jobs], {node: number for number, node in enumerate(jobs)}, 0.0
    ready: list[int] = []
    running: list[tuple[float, int, int, int]] = []  # a job's end, its place, host and GPUs
    while sorter.is_active():
        waiting, most = [], max(free)
        for number in sorted([*ready, *(place[node] for node in sorter.get_ready())]):
            job = jobs[order[number]]
            seconds, gpus = (0.0, 0) if job.linked else (job.chance * job.seconds, job.gpus)
            if gpus > most:
                waiting.append(number)
                continue
            host = min((one for one in range(len(free)) if free[one] >= gpus), key=free.__getitem__)
            free[host] -= gpus
            most = max(free)
            heappush(running, (now + seconds, number, host, gpus))
        now, number, host, gpus = heappop(running)
        free[host] += gpus
        ready = waiting
        sorter.done(order[number])
    return now


def nearest_folder(path: Path) -> Path:
    """A folder, absolute, or the nearest above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _results(plan: Plan, missing: Sequence[Node]) -> Iterator[Pending]:
    """What the missing results, inputs first, will take, and why they are made."""
    index, made = ResultIndex(plan.store), set(missing)
    forecast, follows = Forecast(plan, index), dict[Node, set[str]]()
    for node in missing:
        _, own, others = why(node, index)
        # An input that follows from others passes on from what.
        roots = {stage for other in others for stage in follows.get(other, {other.stage})}
        follows[node] = {node.stage} if own else roots
        waits = not made.isdisjoint(node.parents())
        download, copy, unknown = to_fetch(node, plan.study.catalog_lock)
        yield Pending(
            **vars(forecast.of(node)),
            stage=node.stage,
            name=node.name,
            reasons=tuple(own) or (Reason("input", ", ".join(stage for stage in STAGES if stage in roots)),),
            linked=not waits and can_link(plan.store, node),
            may_link=waits and not own,
            download=download,
            copy=copy,
            unknown=len(unknown),
        )
