"""What is pending for some targets, why, and what it will take.

    found = pending(Path("."), ["tables/table3.csv"])
    print(pending_text(found))

What counts as pending is what ``snakemake -n`` lists: results that are not there and that something pending needs.
What a finished result was made from is not made again, even if it was deleted.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from lntune.plan.fetched import check_recorded
from lntune.plan.forecast import Forecast, Prediction, gpu_document, gpu_lines
from lntune.plan.node import Node, can_link, closure, is_done
from lntune.plan.pages import PAGES
from lntune.plan.plan import Plan
from lntune.plan.reasons import Reason, closest, why
from lntune.plan.stages import STAGES
from lntune.plan.study import Study
from lntune.plan.targets import is_right, targets_of
from lntune.stages.fetch import Execution as FetchExecution
from lntune.store.manifest import Manifest
from lntune.store.reuse import ResultIndex
from lntune.units import bytes_text, seconds_text

_SHOWN_REASONS = 3


@dataclass(frozen=True)
class Pending:
    """One result that is to be made.

    ``seconds`` and ``bytes`` are predicted: those of an earlier result of this label, else the median of the stage's
    results. Where the store holds none, ``seconds`` is the scale's time limit (``at_most``) and ``bytes`` is None.
    With ``prediction``, of a job on the scale's card, it is that instead (lntune.plan.forecast).
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
    forecast, on_card = _Forecast(plan, missing), Forecast(plan)
    return PendingWork(
        scale=plan.study.settings.scale,
        targets=tuple(str(target.file or f"{target.node.stage}/{target.node.name}") for target in asked),
        results=tuple(_with_prediction(forecast.of(node), on_card.of(node)) for node in missing),
        done=done,
        publish=published,
        free_bytes=_free_bytes(plan.store.root),
    )


def _with_prediction(result: Pending, prediction: Prediction | None) -> Pending:
    """Where no earlier result tells how long a job takes, what is predicted for the GPU does, not the time limit."""
    if prediction is None or not result.at_most:
        return replace(result, prediction=prediction)
    return replace(result, seconds=prediction.seconds, at_most=False, bytes=prediction.bytes, prediction=prediction)


def _wrong(file: Path) -> str:
    return "not what it should be" if file.exists() else "not there"


def _free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent if folder != folder.parent else Path(".")
    return shutil.disk_usage(folder).free


class _Forecast:
    """What pending results will take, from what earlier ones took."""

    def __init__(self, plan: Plan, missing: Sequence[Node]) -> None:
        self._plan = plan
        self._shelf = ResultIndex(plan.store)
        self._missing = {id(node) for node in missing}
        self._roots: dict[int, set[str]] = {}

    def of(self, node: Node) -> Pending:
        """A node's forecast; those of its inputs come first. An input that follows from others passes on from what."""
        earlier, _ = closest(node, self._shelf)
        own, others = why(node, self._shelf)
        roots = {stage for other in others for stage in self._roots.get(id(other), {other.stage})}
        self._roots[id(node)] = {node.stage} if own else roots
        reasons = own or [Reason("input", ", ".join(stage for stage in STAGES if stage in roots))]
        like = [earlier] if earlier else self._shelf.some(node.stage)
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


def _summed(results: Iterable[Pending]) -> tuple[float, int]:
    """Seconds and bytes of results that are not linked."""
    computed = [result for result in results if not result.linked]
    return sum(result.seconds for result in computed), sum(result.bytes or 0 for result in computed)


def _reason_lines(results: Sequence[Pending]) -> list[str]:
    """The most frequent reasons of one stage's results, a line each."""
    counts = Counter("; ".join(reason.text for reason in result.reasons) for result in results)
    lines = [text if len(counts) == 1 else f"{number} x {text}" for text, number in counts.most_common(_SHOWN_REASONS)]
    if len(counts) > _SHOWN_REASONS:
        lines.append(f"and {len(counts) - _SHOWN_REASONS} reasons more (--json)")
    return lines


def pending_text(found: PendingWork) -> str:
    """The plan on one screen: a line or a few for each stage, then the totals."""
    results, made = found.results, sum(found.done.values())
    asked = ", ".join(found.targets[:4]) + (f" and {len(found.targets) - 4} more" if len(found.targets) > 4 else "")
    lines = [f"{asked} (scale {found.scale}): {len(results):,} results to make, {made:,} done"]
    if results:
        lines += ["", f"{'stage':<20}{'to make':>8}{'done':>7}{'compute':>11}{'disk':>9}  why"]
    for stage in STAGES:
        of_stage = [result for result in results if result.stage == stage]
        if of_stage:
            lines += _stage_lines(stage, of_stage, found.done.get(stage, 0))
    for wrong in dict.fromkeys(found.publish.values()):
        files = [file for file, said in found.publish.items() if said == wrong]
        few = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        lines.append(f"{'publish':<20}{len(files):>8}{'':>27}  {few}: {wrong}")
    return "\n".join([*lines, *(_total_lines(found) if results else [])])


def _stage_lines(stage: str, results: Sequence[Pending], done: int) -> list[str]:
    seconds, size = _summed(results)
    limit = "<" if any(result.at_most and not result.linked for result in results) else ""
    unknown = any(result.bytes is None and not result.linked for result in results)
    disk = "?" if unknown else bytes_text(size)
    first, *rest = _reason_lines(results)
    lines = [f"{stage:<20}{len(results):>8,}{done:>7,}{limit + seconds_text(seconds):>11}{disk:>9}  {first}"]
    return lines + [f"{'':<55}  {line}" for line in rest]


def _total_lines(found: PendingWork) -> list[str]:
    results = found.results
    seconds, size = _summed(results)
    limits = sum(result.at_most and not result.linked for result in results)
    lines = ["", f"compute: {seconds_text(seconds)} one after another, predicted from earlier results of the same kind"]
    on_card = _on_card(results)
    if on_card:
        lines[-1] += ", or from the models' sizes (docs/memory.md)"
    if limits:
        lines[-1] += f"; {limits:,} without any are counted at their time limit (<)"
    lines += gpu_lines(on_card)
    linked, may = sum(result.linked for result in results), [result for result in results if result.may_link]
    if linked:
        lines.append(f"linked: the work of {linked:,} has been done already; they cost nothing")
    if may:
        lines.append(
            f"perhaps linked: {len(may):,} cost nothing if their inputs come out as they were "
            f"({seconds_text(_summed(may)[0])} of the above)"
        )
    lines.append(_fetch_line(results))
    lines.append(f"disk: {bytes_text(size)} predicted, {bytes_text(found.free_bytes)} free")
    return lines


def _fetch_line(results: Sequence[Pending]) -> str:
    unknown = sum(result.unknown for result in results)
    more = f" and {unknown} file{'s' * (unknown > 1)} of unknown size" if unknown else ""
    return (
        f"fetch: {bytes_text(sum(result.download for result in results))}{more} to download, "
        f"{bytes_text(sum(result.copy for result in results))} to copy"
    )


def _on_card(results: Sequence[Pending]) -> list[tuple[str, float, Prediction]]:
    """The jobs that compute on the scale's card, with the seconds that are counted for each."""
    return [(one.stage, one.seconds, one.prediction) for one in results if one.prediction and not one.linked]


def pending_json(found: PendingWork) -> dict[str, Any]:
    """The same for scripts: every result with its reasons, and the sums."""
    seconds, size = _summed(found.results)
    return {
        "scale": found.scale,
        "targets": list(found.targets),
        "jobs": found.jobs(),
        "done": dict(found.done),
        "seconds": round(seconds, 1),
        "bytes": size,
        "fetch": {key: sum(getattr(one, key) for one in found.results) for key in ("download", "copy", "unknown")},
        "free_bytes": found.free_bytes,
        "publish": dict(found.publish),
        "on_card": gpu_document(_on_card(found.results)),
        "results": [
            asdict(result) | {"reasons": [asdict(reason) | {"text": reason.text} for reason in result.reasons]}
            for result in found.results
        ],
    }
