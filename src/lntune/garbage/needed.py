"""What stays: the results that today's tables and figures, published files, claims and processes at work need, and why.

Each comes with all that it was made from, as far as manifests tell.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lntune.demo_weights import RECIPES, DemoWeightsPlan
from lntune.garbage.listing import counted
from lntune.garbage.locks import is_held
from lntune.garbage.shelves import Shelves, file_paths, scratch_name
from lntune.nodes import Node, closure
from lntune.plan import Plan
from lntune.store.claims import Claim
from lntune.summaries import STAGES_OF_EXHIBITS
from lntune.summaries import names as summaries
from lntune.targets import FORMATS

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
    exhibits = closure([plan.exhibit(name) for name in (*plan.study.experiments(), *summaries(plan))])
    root = plan.study.root
    if not (root / RECIPES).is_file():
        return exhibits, []
    weights = DemoWeightsPlan(root)
    return exhibits, closure([weights.node(name) for name in weights.names()])


def published(root: Path, shelves: Shelves) -> Iterator[tuple[str, list[str]]]:
    """Every published file, and the results of tables and figures that hold its bytes."""
    exhibits = [name for name in shelves.finished if name.partition("/")[0] in STAGES_OF_EXHIBITS]
    for folder, formats in FORMATS.items():
        for file in file_paths(root / folder):
            if file.suffix[1:] in formats and not file.name.startswith("."):
                shown = file.read_bytes()
                held = {name: shelves.store.root / name / file.name for name in exhibits}
                found = [name for name, path in held.items() if path.is_file() and path.read_bytes() == shown]
                yield f"{folder}/{file.name}", found


def at_work(shelves: Shelves) -> Iterator[str]:
    """What processes are making now, and what their orders name as inputs."""
    root = shelves.store.root
    held = {lock.stem for lock in file_paths(root / ".scratch") if lock.suffix == ".lock" and is_held(lock)}
    yield from (name for name in shelves.finished if scratch_name(name) in held)
    for stage, _, id in (name.rpartition("-") for name in sorted(held)):
        for order in (root / ".orders" / stage).glob(f"*-{id}.json"):
            with suppress(OSError, ValueError, KeyError):
                document = json.loads(order.read_text())
                for given in document["inputs"].values():
                    for folder in [given] if isinstance(given, str) else given:
                        yield "/".join(Path(folder).relative_to(document["store"]).parts[:2])


def claims_notes(claims: Sequence[Claim], own: Claim | None, kept: Counter[str]) -> Iterator[str]:
    """A line for each claim that alone keeps results and may be outdated; ``kept`` counts results by reason."""
    for claim in claims:
        if claim.abandoned:
            yield (
                f"{claim.checkout} of {claim.user} is no longer there; its claim alone keeps "
                f"{counted(kept[claimed_text(claim)], 'result')} (`lntune gc --forget {claim.checkout}` drops it)"
            )
    if own and kept[last_run_text(own)]:
        yield (
            f"the claim of this checkout's last run alone keeps {counted(kept[last_run_text(own)], 'result')}; "
            f"the next run's takes its place (`lntune gc --forget .` drops it)"
        )


def claimed_text(claim: Claim) -> str:
    """Why a result stays that another checkout claims."""
    return f"claimed by {claim.text}"


def last_run_text(claim: Claim) -> str:
    """Why a result stays that this checkout's own claim names."""
    return f"needed by this checkout's last run, on {claim.written:%Y-%m-%d}"
