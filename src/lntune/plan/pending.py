"""What is pending for some targets, why, and what it will take; ``lntune plan`` prints it, ``lntune doctor`` checks it.

    work = pending(Plan(Study.read(Path("."))), ["tables/table3.csv"])

What counts as pending is what ``snakemake -n`` lists: results that are not there and that something pending needs.
What a finished result was made from is not made again, even if it was deleted.

Of a job that never ran, what it will take on the scale's GPU is predicted from the models' sizes under the assumptions
of lntune.estimate.jobs. A scale without a GPU (the demo) gets none of it: its jobs are known from earlier results, or
by their time limit.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lntune.plan.fetched import check_recorded
from lntune.plan.forecast import Forecast, Prediction
from lntune.plan.node import Node, Reason, can_link, closure, is_done, why
from lntune.plan.pages import PAGES
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES
from lntune.plan.targets import is_right, targets_of
from lntune.stages.fetch import Execution as FetchExecution
from lntune.store.reuse import ResultIndex


@dataclass(frozen=True)
class Pending:
    """One result that is to be made.

    ``seconds`` and ``bytes`` are predicted: those of an earlier result of this label, else the median of the stage's
    results. Where the store holds none, ``seconds`` is the scale's time limit (``at_most``) and ``bytes`` is None.
    With ``prediction``, of a job on the scale's GPU, it is that instead.
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
    prediction: Prediction | None


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


def pending(plan: Plan, targets: Sequence[str]) -> PendingWork:
    """What is pending for the targets (:func:`lntune.plan.targets.targets_of`), in the order in which it can be made.

    Raises:
        UserError: a target is unknown, or a fetched file is not what was recorded.
    """
    asked = targets_of(plan, targets)
    nodes = closure([target.node for target in asked])
    check_recorded(plan.store, nodes, plan.study.catalog_lock)
    published = {
        str(target.file): "not what it should be" if target.file.exists() else "not there"
        for target in asked
        if target.file and not is_right(plan, target.file)
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
    expected = _Expected(plan, missing)
    return PendingWork(
        scale=plan.study.settings.scale,
        targets=tuple(str(target.file or f"{target.node.stage}/{target.node.name}") for target in asked),
        results=tuple(expected.of(node) for node in missing),
        done=done,
        publish=published,
        free_bytes=_free_bytes(plan.store.root),
    )


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent if folder != folder.parent else Path(".")
    return shutil.disk_usage(folder).free


class _Expected:
    """What pending results will take: what earlier ones took, or else what is predicted for the GPU, or their limit."""

    def __init__(self, plan: Plan, missing: Sequence[Node]) -> None:
        self._plan = plan
        self._index, self._forecast = ResultIndex(plan.store), Forecast(plan)
        self._missing = {id(node) for node in missing}
        self._roots: dict[int, set[str]] = {}

    def of(self, node: Node) -> Pending:
        """Of one node, after its inputs. An input that follows from others passes on from what."""
        earlier, own, others = why(node, self._index)
        roots = {stage for other in others for stage in self._roots.get(id(other), {other.stage})}
        self._roots[id(node)] = {node.stage} if own else roots
        reasons = own or [Reason("input", ", ".join(stage for stage in STAGES if stage in roots))]
        like = [earlier] if earlier else self._index.some(node.stage)
        prediction, size = self._forecast.of(node), None
        if like:
            seconds = median(one.wall_seconds for one in like)
            size = round(median(sum(file.bytes for file in one.outputs.values()) for one in like))
        elif prediction:
            seconds, size = prediction.seconds, prediction.bytes
        else:
            seconds = self._plan.scale.execution.of(node.stage).runtime * 60.0
        download, copy, unknown = self._fetched(node)
        waits = any(id(parent) in self._missing for parent in node.parents())
        return Pending(
            stage=node.stage,
            name=node.name,
            reasons=tuple(reasons),
            seconds=seconds,
            at_most=not like and prediction is None,
            bytes=size,
            linked=not waits and can_link(self._plan.store, node),
            may_link=waits and not own,
            prediction=prediction,
            download=download,
            copy=copy,
            unknown=unknown,
        )

    def _fetched(self, node: Node) -> tuple[int, int, int]:
        """Bytes that a fetch downloads and copies, and files of unknown size; by catalogue, record and copies."""
        download = copied = unknown = 0
        if isinstance(node.execution, FetchExecution):
            recorded = self._plan.study.catalog_lock.entries.get(node.execution.entry, {})
            for name, place in node.execution.places.items():
                source = node.execution.copies.get(name) or place.path
                if source is not None:
                    path = Path(node.execution.root, source)
                    copied += path.stat().st_size if path.is_file() else 0
                    continue
                size = recorded[name].bytes if place.bytes is None and name in recorded else place.bytes
                download += size or 0
                unknown += size is None
        return download, copied, unknown
