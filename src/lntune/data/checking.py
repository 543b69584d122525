"""Looks at the pictures of a data set's records before anything is made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lntune.data.drops import Drops
from lntune.data.pictures import PictureArchive, PictureError, defects
from lntune.errors import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class PictureCheck(Generic[Item]):
    """Decodes the pictures of records, and says which cannot be used.

    Attributes:
        archive: where the pictures lie.
        member: the name of a record's picture in the archive.
        source: how a record is named, with its file.
        workers: threads that decode.
        share: of the records that are checked, what part may have a picture that cannot be used.
        unit: what a record is, in the plural, for messages.
    """

    archive: PictureArchive
    member: Callable[[Item], str]
    source: Callable[[Item], str]
    workers: int
    share: float
    unit: str

    def pictures(self, records: Sequence[Item]) -> int:
        """How many different pictures the records have."""
        return len({self.member(one) for one in records})

    def faults(self, records: Sequence[Item], advance: Callable[[], None]) -> dict[int, PictureError]:
        """The places of the records whose picture cannot be used, and why."""
        found = defects(self.archive, map(self.member, records), self.workers, advance)
        return {place: found[self.member(one)] for place, one in enumerate(records) if self.member(one) in found}

    def refuse(self, faulty: Sequence[tuple[Item, PictureError]], checked: int) -> None:
        """UserError if more of the checked records are faulty than may be; names how many, and the first."""
        if len(faulty) <= self.share * checked:
            return
        first, defect = faulty[0]
        found = f"{len(faulty)} of {checked} {self.unit} ({len(faulty) / checked:.3%})"
        raise UserError(
            f"{self.archive.path}: the pictures of {found} cannot be used, the scale's broken_share allows "
            f"{self.share:.3%}; first: {self.member(first)} of {self.source(first)} is {defect}; mend the archive, "
            f"or raise broken_share to leave them out"
        )

    def note(self, drops: Drops, faulty: Sequence[tuple[Item, PictureError]]) -> None:
        """List the faulty records among what is left out."""
        for one, defect in faulty:
            reason = f"picture {defect.reason}"
            drops.fault(reason, self.source(one), picture=self.member(one), detail=defect.detail)
