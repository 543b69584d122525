"""What stays: the results that today's tables and figures, published files, leases and processes at work need, and why.

Each comes with all that it was made from, as far as manifests tell.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lntune.commands.gc.listing import counted
from lntune.commands.gc.locks import is_held
from lntune.commands.gc.store_folders import Shelves, file_paths, scratch_name
from lntune.plan.demo_weights import RECIPES, DemoWeightsPlan
from lntune.plan.node import Node, closure
from lntune.plan.plan import Plan
from lntune.plan.summary_tables import STAGES_OF_REPORT_ITEMS
from lntune.plan.summary_tables import names as summaries
from lntune.plan.targets import FORMATS
from lntune.store.leases import Lease

TODAY = "needed by a table or figure of today's config"
WEIGHTS = "one of the demo's weights"
AT_WORK = "needed by a process at work"


class Needed:
    """Which results stay, made or not, and why; the first reason that is given counts."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves
        self.reasons: dict[str, str] = {}

    def add(self, names: Iterable[str], reason: str) -> list[str]:
        """Keep these, and all that they were made from as far as manifests tell; return those that are new."""
        added, open_ends = [], list(names)
        while open_ends:
            name = open_ends.pop()
            if name in self.reasons:
                continue
            self.reasons[name] = reason
            added.append(name)
            manifest = self._shelves.manifest(name)
            # A parent may bear another label than today's node of the same id: the manifest knows its folder.
            open_ends += [record.name for _, record in manifest.parents()] if manifest else []
        return added


def todays_nodes(plan: Plan) -> tuple[list[Node], list[Node]]:
    """All nodes of all tables and figures, and of the demo's weights; UserError if a file is wrong."""
    report_items = closure([plan.report_item(name) for name in (*plan.study.report_items(), *summaries(plan))])
    root = plan.study.root
    if not (root / RECIPES).is_file():
        return report_items, []
    weights = DemoWeightsPlan(root)
    return report_items, closure([weights.node(name) for name in weights.names()])


def published(root: Path, shelves: Shelves) -> Iterator[tuple[str, list[str]]]:
    """Every published file, and the results of tables and figures that hold its bytes."""
    report_items = [name for name in shelves.finished if name.partition("/")[0] in STAGES_OF_REPORT_ITEMS]
    for folder, formats in FORMATS.items():
        for file in file_paths(root / folder):
            if file.suffix[1:] in formats and not file.name.startswith("."):
                shown = file.read_bytes()
                held = {name: shelves.store.root / name / file.name for name in report_items}
                found = [name for name, path in held.items() if path.is_file() and path.read_bytes() == shown]
                yield f"{folder}/{file.name}", found


def at_work(shelves: Shelves) -> Iterator[str]:
    """What processes are making now, and what their orders name as inputs."""
    root = shelves.store.root
    held = {lock.stem for lock in file_paths(root / ".scratch") if lock.suffix == ".lock" and is_held(lock)}
    yield from (name for name in shelves.finished if scratch_name(name) in held)
    for stage, _, id in (name.rpartition("-") for name in sorted(held)):
        for spec in (root / ".jobs" / stage).glob(f"*-{id}.json"):
            with suppress(OSError, ValueError, KeyError):
                document = json.loads(spec.read_text())
                for given in document["inputs"].values():
                    for folder in [given] if isinstance(given, str) else given:
                        yield "/".join(Path(folder).relative_to(document["store"]).parts[:2])


def leases_notes(leases: Sequence[Lease], own: Lease | None, kept: Counter[str]) -> Iterator[str]:
    """A line for each lease that alone keeps results and may be outdated; ``kept`` counts results by reason."""
    for lease in leases:
        if lease.abandoned:
            yield (
                f"{lease.checkout} of {lease.user} is no longer there; its lease alone keeps "
                f"{counted(kept[leased_text(lease)], 'result')} (`lntune gc --forget {lease.checkout}` drops it)"
            )
    if own and kept[last_run_text(own)]:
        yield (
            f"the lease of this checkout's last run alone keeps {counted(kept[last_run_text(own)], 'result')}; "
            f"the next run's takes its place (`lntune gc --forget .` drops it)"
        )


def leased_text(lease: Lease) -> str:
    """Why a result stays that another checkout leases."""
    return f"leased by {lease.text}"


def last_run_text(lease: Lease) -> str:
    """Why a result stays that this checkout's own lease names."""
    return f"needed by this checkout's last run, on {lease.written:%Y-%m-%d}"
