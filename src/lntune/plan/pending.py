"""What is pending for some targets, why, and what it will take; ``lntune plan`` prints it, ``lntune doctor`` checks it.

    work = pending(Path("."), ["tables/table3.csv"])

What counts as pending is what ``snakemake -n`` lists: results that are not there and that something pending needs.
What a finished result was made from is not made again, even if it was deleted.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from lntune.plan.fetched import check_recorded
from lntune.plan.forecast import Forecast, Prediction
from lntune.plan.node import Node, Reason, can_link, closest, closure, is_done, why
from lntune.plan.pages import PAGES
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.plan.study import Study
from lntune.plan.targets import is_right, targets_of
from lntune.stages.fetch import Execution as FetchExecution
from lntune.store.manifest import Manifest
from lntune.store.reuse import ResultIndex


@dataclass(frozen=True)
class Pending:
    """One result that is to be made.

    ``seconds`` and ``bytes`` are predicted: those of an earlier result of this label, else the median of the stage's
    results. Where the store holds none, ``seconds`` is the scale's time limit (``at_most``) and ``bytes`` is None.
    With ``prediction``, of a job on the scale's GPU, it is that instead (lntune.plan.forecast).
    ``linked`` says that its work has been done already, so that it costs nothing; ``may_link`` that it has if its
    pending inputs come out as they were. Of a fetch, ``download`` and ``copy`` are the bytes that come from elsewhere
    and from this machine's disks, and ``unknown`` the number of files to download whose size nobody knows yet.
    """

    stage: str
    name: str
    reasons: tuple[Reason, ...]
    seconds: float
    at_most: bool
    bytes: int | None
    download: int
    copy: int
    unknown: int
    linked: bool
    may_link: bool
    prediction: Prediction | None = None


@dataclass(frozen=True)
class PendingWork:
    """All that is to be made for some targets, and the files that are to be published."""

    scale: str
    targets: tuple[str, ...]
    results: tuple[Pending, ...]
    done: Mapping[str, int]
    publish: Mapping[str, str]
    free_bytes: int

    def jobs(self) -> dict[str, int]:
        """Jobs by stage, and of ``publish`` and ``page``; as ``snakemake -n`` counts them, but for its rule ``all``."""
        found = Counter(result.stage for result in self.results)
        found.update("page" if Path(file).parent.name == PAGES else "publish" for file in self.publish)
        return dict(found)


def pending(root: Path, targets: Sequence[str], overrides: Mapping[str, Any] | None = None) -> PendingWork:
    """What is pending for the targets (:func:`lntune.plan.targets.targets_of`), in the order in which it can be made.

    Raises:
        UserError: the config is wrong, a target is unknown, or a fetched file is not what was recorded.
    """
    return pending_in(Plan(Study.read(root, overrides)), targets)


def pending_in(plan: Plan, targets: Sequence[str]) -> PendingWork:
    """As :func:`pending`, of a plan that is there already."""
    asked = targets_of(plan, targets)
    nodes = closure([target.node for target in asked])
    check_recorded(plan.store, nodes, plan.study.catalog_lock)
    published = {
        str(target.file): _wrong(target.file) for target in asked if target.file and not is_right(plan, target.file)
    }
    needed = {id(target.node) for target in asked if target.file is None or str(target.file) in published}
    missing = []
    done: Counter[str] = Counter()
    for node in reversed(nodes):  # what needs a result comes before it
        if is_done(plan.store, node):
            done[node.stage] += 1
        elif id(node) in needed:
            missing.append(node)
            needed |= {id(parent) for parent in node.parents()}
    missing.reverse()
    earlier, on_gpu = _Earlier(plan, missing), Forecast(plan)
    return PendingWork(
        scale=plan.study.settings.scale,
        targets=tuple(str(target.file or f"{target.node.stage}/{target.node.name}") for target in asked),
        results=tuple(_with_prediction(earlier.of(node), on_gpu.of(node)) for node in missing),
        done=done,
        publish=published,
        free_bytes=_free_bytes(plan.store.root),
    )


def _with_prediction(result: Pending, prediction: Prediction | None) -> Pending:
    """Where no earlier result shows how long a job takes, what is predicted for the GPU counts, not the time limit."""
    if prediction is None or not result.at_most:
        return replace(result, prediction=prediction)
    return replace(result, seconds=prediction.seconds, at_most=False, bytes=prediction.bytes, prediction=prediction)


def _wrong(file: Path) -> str:
    return "not what it should be" if file.exists() else "not there"


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent if folder != folder.parent else Path(".")
    return shutil.disk_usage(folder).free


class _Earlier:
    """What pending results will take, from what earlier ones took."""

    def __init__(self, plan: Plan, missing: Sequence[Node]) -> None:
        self._plan = plan
        self._index = ResultIndex(plan.store)
        self._missing = {id(node) for node in missing}
        self._roots: dict[int, set[str]] = {}

    def of(self, node: Node) -> Pending:
        """A node's forecast; those of its inputs come first. An input that follows from others passes on from what."""
        earlier, _ = closest(node, self._index)
        own, others = why(node, self._index)
        roots = {stage for other in others for stage in self._roots.get(id(other), {other.stage})}
        self._roots[id(node)] = {node.stage} if own else roots
        reasons = own or [Reason("input", ", ".join(stage for stage in STAGES if stage in roots))]
        like = [earlier] if earlier else self._index.some(node.stage)
        execution = self._plan.scale.execution
        limit = execution.of(node.stage).runtime * 60.0
        waits = any(id(parent) in self._missing for parent in node.parents())
        fetched = self._fetched(node)
        return Pending(
            stage=node.stage,
            name=node.name,
            reasons=tuple(reasons),
            seconds=median(one.wall_seconds for one in like) if like else limit,
            at_most=not like,
            bytes=round(median(_bytes(one) for one in like)) if like else None,
            download=fetched["download"],
            copy=fetched["copy"],
            unknown=fetched["unknown"],
            linked=not waits and can_link(self._plan.store, node),
            may_link=waits and not own,
        )

    def _fetched(self, node: Node) -> dict[str, int]:
        """What a fetch downloads and copies, by the catalogue, by what was recorded, and by the copies there are."""
        found = {"download": 0, "copy": 0, "unknown": 0}
        if not isinstance(node.execution, FetchExecution):
            return found
        recorded = self._plan.study.catalog_lock.entries.get(node.execution.entry, {})
        for name, place in node.execution.places.items():
            source = node.execution.copies.get(name) or place.path
            if source is not None:
                path = Path(node.execution.root, source)
                found["copy"] += path.stat().st_size if path.is_file() else 0
                continue
            size = recorded[name].bytes if place.bytes is None and name in recorded else place.bytes
            found["download"] += size or 0
            found["unknown"] += size is None
        return found


def _bytes(manifest: Manifest) -> int:
    return sum(file.bytes for file in manifest.outputs.values())
