"""What was read, what was left out and why, and what was kept of one data set.

``dropped.json`` holds the counts, by reason; ``dropped.jsonl`` names every record that was left out for a fault of
its own, such as an image that cannot be used. What was left out by choice (another type, beyond the number asked for)
is counted alone.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from lntune.data.images import ImageArchive, ImageError
from lntune.data.samples import Question, Sample
from lntune.errors import UserError
from lntune.progress import Progress

COUNTS, LIST = "dropped.json", "dropped.jsonl"


@dataclass(frozen=True)
class Counts:
    """The counts of one data set: ``read`` is the sum of ``kept`` and of all in ``dropped``.

    ``files`` is what each file holds as a whole, before anything is left out: file, then what, to how many.
    """

    unit: str
    read: int
    dropped: dict[str, int]
    kept: int
    files: Mapping[str, Mapping[str, int]]


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

    def write(
        self, folder: Path, unit: str, read: int, kept: int, files: Mapping[str, Mapping[str, int]] = {}
    ) -> dict[str, int | float | str]:
        """Write both files; return the counts as metrics: ``unit`` (what was kept), ``read``, ``dropped: reason``.

        ``files`` says what each file holds as a whole, and may leave out files of which nobody publishes counts.
        """
        dropped = dict(sorted(self.counts.items()))
        assert read == kept + sum(dropped.values()), f"{read} read, {kept} kept, {dropped} dropped"
        counts = asdict(Counts(unit, read, dropped, kept, files))
        (folder / COUNTS).write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
        (folder / LIST).write_text("".join(json.dumps(one) + "\n" for one in self._faults), encoding="utf-8")
        return {unit: kept, "read": read, **{f"dropped: {reason}": number for reason, number in dropped.items()}}


def read_counts(folder: Path) -> Counts:
    """The counts that :meth:`Drops.write` wrote."""
    return Counts(**json.loads((folder / COUNTS).read_bytes()))


Record = TypeVar("Record", Sample, Question)


@dataclass(frozen=True)
class ImageCheck(Generic[Record]):
    """Decodes the images of records, and says which cannot be used."""

    archive: ImageArchive
    source: Callable[[Record], str]  # how a record is named, with its file
    workers: int  # threads that decode
    share: float  # of the records that are checked, what part may have an image that cannot be used
    unit: str  # what a record is, in the plural, for messages
    track: Callable[[int, str], AbstractContextManager[Progress]]  # shows the progress of so many of a unit

    def faults(self, records: Sequence[Record]) -> dict[int, ImageError]:
        """The places of the records whose image cannot be used, and why."""
        with self.track(len({one.image for one in records}), "images") as progress:
            found = self.archive.defects((one.image for one in records), self.workers, progress.advance)
        return {place: found[one.image] for place, one in enumerate(records) if one.image in found}

    def drop(self, faulty: Sequence[tuple[Record, ImageError]], checked: int, drops: Drops) -> None:
        """List faulty records among what is left out; UserError if more of the checked ones are than may be."""
        if len(faulty) > self.share * checked:
            first, defect = faulty[0]
            found = f"{len(faulty)} of {checked} {self.unit} ({len(faulty) / checked:.3%})"
            raise UserError(
                f"{self.archive.path}: the images of {found} cannot be used, the scale's broken_share allows "
                f"{self.share:.3%}; first: {first.image} of {self.source(first)} is {defect}; fix the archive, "
                f"or raise broken_share to leave them out"
            )
        for one, defect in faulty:
            drops.fault(f"image {defect.reason}", self.source(one), image=one.image, detail=defect.detail)
