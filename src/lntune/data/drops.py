"""What was read, what was left out and why, and what was kept of one data set.

``dropped.json`` holds the counts, by reason; ``dropped.jsonl`` names every record that was left out for a fault of
its own. What was left out by choice (another type, beyond the number asked for) is counted alone.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COUNTS, LIST = "dropped.json", "dropped.jsonl"


@dataclass(frozen=True)
class Counts:
    """The counts of one data set: ``read`` is the sum of ``kept`` and of all in ``dropped``."""

    unit: str
    read: int
    dropped: dict[str, int]
    kept: int


class Drops:
    """Gathers what is left out of a data set."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._faults: list[dict[str, Any]] = []

    def choose(self, reason: str, number: int) -> None:
        """Count records that are left out by choice."""
        if number:
            self.counts[reason] += number

    def fault(self, reason: str, source: str, **more: str) -> None:
        """Count and list a record that cannot be used; ``source`` names file and record."""
        self.counts[reason] += 1
        self._faults.append({"source": source, "reason": reason, **more})

    def write(self, folder: Path, unit: str, read: int, kept: int) -> dict[str, int | float | str]:
        """Write both files; return the counts as metrics: ``unit`` (what was kept), ``read``, ``dropped: reason``."""
        dropped = dict(sorted(self.counts.items()))
        assert read == kept + sum(dropped.values()), f"{read} read, {kept} kept, {dropped} dropped"
        counts = {"unit": unit, "read": read, "dropped": dropped, "kept": kept}
        (folder / COUNTS).write_text(json.dumps(counts, indent=1) + "\n")
        (folder / LIST).write_text("".join(json.dumps(one) + "\n" for one in self._faults))
        return {unit: kept, "read": read, **{f"dropped: {reason}": number for reason, number in dropped.items()}}


def read_counts(folder: Path) -> Counts:
    """The counts that :meth:`Drops.write` wrote."""
    return Counts(**json.loads((folder / COUNTS).read_text()))
