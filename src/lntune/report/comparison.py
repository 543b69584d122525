"""Our tables beside the paper's: figure by figure, and whether the methods come out in the same order.

compared = compare(paper, ours)
compared[0].difference, compared[0].inside      # of one figure
orders(compared)                                # Kendall's tau-b for each group and column
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

from lntune.report.printed import Place, Printed


@dataclass(frozen=True)
class Compared:
    """One figure of the paper and ours in its place, if we have one."""

    paper: Printed
    ours: Printed | None

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.paper.place

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in the table's own unit."""
        if self.ours is None or self.ours.number is None or self.paper.number is None:
            return None
        return self.ours.number - self.paper.number

    @property
    def inside(self) -> bool | None:
        """Whether the paper's figure lies in our 95% interval; None without one."""
        if self.ours is None or self.ours.bounds is None or self.paper.number is None:
            return None
        return self.ours.bounds[0] <= self.paper.number <= self.ours.bounds[1]


@dataclass(frozen=True)
class Order:
    """How alike the rows of one group are ordered by one figure.

    Attributes:
        tau: Kendall's tau-b: 1 the same order, -1 the reverse; None if one side has fewer than two different values.
        rows: how many rows have the figure on both sides.
    """

    table: str
    group: str
    column: str
    part: str
    tau: float | None
    rows: int


def compare(paper: Sequence[Printed], ours: Sequence[Printed]) -> list[Compared]:
    """Every figure of the paper's, in its order, with ours."""
    found = {one.place: one for one in ours}
    return [Compared(one, found.get(one.place)) for one in paper]


def tau_b(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b of two rankings of the same things, with ties (Kendall 1945).

    Concordant minus discordant pairs, over the geometric mean of the pairs that are not tied in ``a`` and of those that
    are not tied in ``b``. None if all pairs are tied in one of the two.
    """
    concordance = untied_a = untied_b = 0
    for (a1, b1), (a2, b2) in combinations(zip(a, b, strict=True), 2):
        up_a, up_b = (a1 > a2) - (a1 < a2), (b1 > b2) - (b1 < b2)
        concordance += up_a * up_b
        untied_a += up_a != 0
        untied_b += up_b != 0
    return concordance / sqrt(untied_a * untied_b) if untied_a and untied_b else None


def orders(compared: Sequence[Compared]) -> list[Order]:
    """For each group and figure how the rows are ordered on the two sides, where there is anything of ours."""
    pairs: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for one in compared:
        if one.ours is not None and one.ours.number is not None and one.paper.number is not None:
            place = one.place
            key = (place.table, place.group, place.column, place.part)
            pairs.setdefault(key, []).append((one.paper.number, one.ours.number))
    return [Order(*key, tau_b(*zip(*both, strict=True)), len(both)) for key, both in pairs.items()]
