"""What is done and what is pending for some targets, by stage, in the order in which stages run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from lntune.nodes import closure, is_done
from lntune.plan import Plan
from lntune.stages.registry import STAGES
from lntune.study import Study
from lntune.targets import table_name


class StageCount(TypedDict):
    """One stage's results."""

    stage: str
    done: int
    pending: int


def counts(root: Path, targets: Sequence[str]) -> list[StageCount]:
    """Counts for the tables named, or for all of the config's.

    A result counts as pending if it is not there and something pending needs it: what a finished result was made
    from is not made again, even if it was deleted.
    """
    plan = Plan(Study.read(root))
    names = [table_name(target) for target in targets] or list(plan.study.settings.experiments)
    nodes = closure([plan.table(name) for name in names])
    needed = {id(plan.table(name)) for name in names}
    found: dict[str, StageCount] = {stage: {"stage": stage, "done": 0, "pending": 0} for stage in STAGES}
    for node in reversed(nodes):  # what needs a result comes before it
        if is_done(plan.store, node):
            found[node.stage]["done"] += 1
        elif id(node) in needed:
            found[node.stage]["pending"] += 1
            needed |= {id(parent) for parent in node.parents()}
    return [count for count in found.values() if count["done"] + count["pending"]]


def counts_text(found: Sequence[StageCount]) -> str:
    """The counts as a table."""
    lines = [f"{'stage':<20}{'done':>8}{'pending':>10}"]
    lines += [f"{one['stage']:<20}{one['done']:>8}{one['pending']:>10}" for one in found]
    lines.append(f"{'all':<20}{sum(o['done'] for o in found):>8}{sum(o['pending'] for o in found):>10}")
    return "\n".join(lines)
