"""``lntune plan``: what :mod:`lntune.plan.pending` found for some targets, as text and as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lntune.plan.pending import Pending, PendingWork, summed
from lntune.plan.stages import STAGES
from lntune.units import bytes_text, counted, seconds_text

_SHOWN_REASONS = 3
_FETCH = ("download", "copy", "unknown")


def _reason_lines(results: Sequence[Pending]) -> list[str]:
    """The most frequent reasons of one stage's results, a line each."""
    counts = Counter("; ".join(reason.text for reason in result.reasons) for result in results)
    lines = [text if len(counts) == 1 else f"{number} x {text}" for text, number in counts.most_common(_SHOWN_REASONS)]
    if len(counts) > _SHOWN_REASONS:
        lines.append(f"and {len(counts) - _SHOWN_REASONS} more reasons (--json)")
    return lines


def pending_text(found: PendingWork, price: float | None = None) -> str:
    """The plan on one screen: a line or a few for each stage, then the totals; a GPU-hour costs ``price`` euros."""
    results, made = found.results, sum(found.done.values())
    lines = [f"{found.asked}: {len(results):,} results to make, {made:,} done"]
    if results:
        lines += ["", f"{'stage':<20}{'to make':>8}{'done':>7}{'compute':>11}{'disk':>9}  why"]
    for stage in STAGES:
        of_stage = [result for result in results if result.stage == stage]
        if of_stage:
            lines += _stage_lines(stage, of_stage, found.done.get(stage, 0))
    for wrong in dict.fromkeys(found.publish.values()):
        files = [file for file, why in found.publish.items() if why == wrong]
        few = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        lines.append(f"{'publish':<20}{len(files):>8}{'':>27}  {few}: {wrong}")
    return "\n".join([*lines, *(_total_lines(found, price) if results else [])])


def compared_text(found: Mapping[str, PendingWork], price: float | None = None) -> str:
    """What several configs take, a column each."""
    rows: dict[str, dict[str, str]] = {}
    for name, one in found.items():
        hours = {stage: its["predicted_gpu_hours"] for stage, its in _on_gpu(one.results).items()}
        values = {"results to make": f"{len(one.results):,}", "GPU-hours": f"{sum(hours.values()):,.0f}"}
        values |= {f"  {stage}": f"{value:,.0f}" for stage, value in hours.items()}
        values |= {f"  of it: {kind}": f"{value:,.0f}" for kind, value in _waste(one.results).items()}
        values |= _bill(one, price) | {"disk": bytes_text(summed(one.results)[1])}
        values["disk with checkpoints"] = bytes_text(summed(one.results)[1] + one.checkpoint_bytes + one.waiting_bytes)
        for key, value in values.items():
            rows.setdefault(key, {})[name] = value
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows.values())) + 2 for name in found}
    wide = max(map(len, rows)) + 2
    lines = [" " * wide + "".join(name.rjust(width) for name, width in widths.items())]
    for key, row in rows.items():
        lines.append(key.ljust(wide) + "".join(row.get(name, "-").rjust(width) for name, width in widths.items()))
    return "\n".join([*lines, "", "All hours, bytes and money are predicted; what is `of it` overlaps."])


def _stage_lines(stage: str, results: Sequence[Pending], done: int) -> list[str]:
    seconds, size = summed(results)
    bases = {result.basis for result in results if not result.linked}
    limit = "<" if "limit" in bases else "~" if "predicted" in bases else ""
    unknown = any(result.bytes is None and not result.linked for result in results)
    disk = "?" if unknown else bytes_text(size)
    first, *rest = _reason_lines(results)
    lines = [f"{stage:<20}{len(results):>8,}{done:>7,}{limit + seconds_text(seconds):>11}{disk:>9}  {first}"]
    return lines + [f"{'':<55}  {line}" for line in rest]


def _total_lines(found: PendingWork, price: float | None) -> list[str]:
    results = found.results
    seconds, size = summed(results)
    bases = Counter(result.basis for result in results if not result.linked)
    rehearsed_on = ", ".join(sorted({result.measured_on for result in results} - {""}))
    how = {
        "earlier": "by earlier results of the same kind",
        "measured": f"{bases['measured']:,} measured by the rehearsal on {rehearsed_on}",
        "predicted": f"{bases['predicted']:,} predicted (~) from sizes and counts (docs/memory.md)",
        "limit": f"{bases['limit']:,} at their time limit (<)",
    }
    known = "; ".join(text for basis, text in how.items() if basis in bases)
    lines = ["", f"compute: {seconds_text(seconds)} one after another: {known or 'nothing'}"]
    if chances := [result.chance for result in results if result.chance < 1]:
        likely = f"{len(chances):,} wait for a search's choice, which keeps about {sum(chances):,.0f} of them"
        lines.append(f"search: {likely}; they are counted by that share")
    if on_gpu := _on_gpu(results):
        hours = {stage: one["predicted_gpu_hours"] for stage, one in on_gpu.items()}
        by_stage, by_kind = (
            ", ".join(f"{key} {value:,.0f}" for key, value in one.items()) for one in (hours, _waste(results))
        )
        peaks = {stage: peak for stage, one in on_gpu.items() if (peak := one["predicted_peak_bytes"])}
        memory = ", ".join(f"{stage} {peak / 1e9:.0f} GB" for stage, peak in peaks.items())
        lines.append(f"GPU-hours: {sum(hours.values()):,.0f} predicted ({by_stage})")
        lines.append(f"of these, each by itself (they overlap), predicted: {by_kind}")
        lines += [f"{key}: {value} predicted" for key, value in _bill(found, price).items()]
        lines.append(f"peak memory on a GPU, predicted: {memory}")
    linked, may = sum(result.linked for result in results), [result for result in results if result.may_link]
    if linked:
        lines.append(f"linked: the work of {linked:,} has been done already; they cost nothing")
    if may:
        lines.append(
            f"perhaps linked: {len(may):,} cost nothing if their inputs come out as they were "
            f"({seconds_text(summed(may)[0])} of the above)"
        )
    fetch = {key: sum(getattr(result, key) for result in results) for key in _FETCH}
    more = f" and {counted(fetch['unknown'], 'file')} of unknown size" if fetch["unknown"] else ""
    lines += [
        f"fetch: {bytes_text(fetch['download'])}{more} to download, {bytes_text(fetch['copy'])} to copy",
        f"disk: {bytes_text(size)} predicted, {bytes_text(found.free_bytes)} free",
    ]
    if found.checkpoint_bytes:
        most = bytes_text(found.checkpoint_bytes)
        saved = bytes_text(sum(round(one.chance * one.saved) for one in results))
        at_once = f"up to {most} beside that, predicted for the jobs that run at once, two each"
        if found.waiting_bytes:
            at_once += f", and up to {bytes_text(found.waiting_bytes)} of candidates that wait for a search's choice"
        lines.append(f"checkpoints: {at_once}; {saved} written in all")
    return lines


def _on_gpu(results: Sequence[Pending]) -> dict[str, dict[str, float]]:
    """By stage, of the jobs that compute on the scale's GPU, GPU-hours and the largest peak in bytes, as predicted."""
    found: dict[str, dict[str, float]] = {}
    for one in results:
        if one.gpus and not one.linked:
            entry = found.setdefault(one.stage, {"predicted_gpu_hours": 0.0, "predicted_peak_bytes": 0})
            entry["predicted_gpu_hours"] += one.chance * one.seconds * one.gpus / 3600
            entry["predicted_peak_bytes"] = max(entry["predicted_peak_bytes"], one.memory)
    return found


def _waste(results: Sequence[Pending]) -> dict[str, float]:
    """GPU-hours of each kind of waste that is predicted, the largest first."""
    kinds: Counter[str] = Counter()
    for one in results:
        if not one.linked:
            kinds.update({kind: one.chance * seconds * one.gpus / 3600 for kind, seconds in one.waste.items()})
    return {kind: value for kind, value in kinds.most_common() if value > 0}


def _bill(found: PendingWork, price: float | None) -> dict[str, str]:
    """Node-hours, the time that some nodes take, and money, where it is asked for."""
    hours = _gpu_hours(found)
    lines = (
        {"node-hours": f"{hours / found.node_gpus:,.0f} x {counted(found.node_gpus, 'GPU')}"}
        if hours and found.node_gpus
        else {}
    )
    if found.nodes and found.wall_seconds is not None:
        lines[f"wall time on {counted(found.nodes, 'node')}"] = seconds_text(found.wall_seconds)
    return lines | ({} if price is None else {f"money at {price:g} EUR a GPU-hour": f"{hours * price:,.0f} EUR"})


def _gpu_hours(found: PendingWork) -> float:
    return sum(one["predicted_gpu_hours"] for one in _on_gpu(found.results).values())


def pending_json(found: PendingWork, price: float | None = None) -> dict[str, Any]:
    """The same for scripts: every result with its reasons, and the sums."""
    seconds, size = summed(found.results)
    return {
        "scale": found.scale,
        "targets": list(found.targets),
        "jobs": found.jobs(),
        "done": dict(found.done),
        "seconds": round(seconds, 1),
        "bytes": size,
        "fetch": {key: sum(getattr(one, key) for one in found.results) for key in _FETCH},
        "checkpoint_bytes": found.checkpoint_bytes,
        "waiting_bytes": found.waiting_bytes,
        "free_bytes": found.free_bytes,
        "publish": dict(found.publish),
        "on_gpu": _on_gpu(found.results),
        "predicted_waste_gpu_hours": _waste(found.results),
        "predicted_node_hours": _gpu_hours(found) / found.node_gpus if found.node_gpus else 0.0,
        "predicted_wall_seconds": found.wall_seconds,
        "predicted_eur": None if price is None else _gpu_hours(found) * price,
        "results": [
            asdict(result) | {"reasons": [asdict(reason) | {"text": reason.text} for reason in result.reasons]}
            for result in found.results
        ],
    }
