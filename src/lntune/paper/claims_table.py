"""Readings of claims as CSV, all of them, and as Markdown, one line a claim with the reading that comes nearest."""

import csv
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from lntune.paper.claims import CUT, UNKNOWN, YES, Reading, verdicts

COLUMNS = (
    "id", "place", "claim", "kind", "claimed", "implied", "reading", "as_worded", "formula", "paper_tables_yield",
    "agrees", "ours", "ours_agrees", "note",
)  # fmt: skip
"""The CSV's header."""


def write_csv(path: Path, readings: Sequence[Reading]) -> None:
    """Every reading, a line each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_record(one) for one in readings)


def _record(one: Reading) -> tuple[str, ...]:
    claim = one.claim
    worded = ("yes" if one.worded else "no") if one.name else ""
    return (
        claim.id, claim.place, claim.claim, claim.kind, claim.claimed, "yes" if claim.implied else "", one.name, worded,
        one.formula, one.shown(one.paper), one.agrees, one.shown(one.ours), one.ours_agrees, claim.note,
    )  # fmt: skip


def nearest(its: Sequence[Reading]) -> Reading:
    """Of one claim's readings the first that agrees, as worded if one does; else the one with the nearest value."""

    def distance(one: Reading) -> tuple[int, bool, float]:
        rank = [YES, CUT].index(one.agrees) if one.agrees in (YES, CUT) else 2
        far = float("inf") if one.paper is None else abs(one.paper - float(Decimal(one.claim.value)))
        return rank, not one.worded, 0.0 if rank == 0 else far

    return min(its, key=distance)


def by_claim(readings: Sequence[Reading]) -> list[list[Reading]]:
    """The readings of each claim together."""
    found: dict[str, list[Reading]] = {}
    for one in readings:
        found.setdefault(one.claim.id, []).append(one)
    return list(found.values())


def summary(readings: Sequence[Reading]) -> str:
    """How many claims follow from the paper's tables."""
    found = list(verdicts(readings).values())
    return (
        f"{len(found)} claims: {found.count('agrees')} follow under every reading that their words allow, "
        f"{found.count('some readings')} under some of these, {found.count('other words')} only under other ones, "
        f"{found.count('cut off')} only if digits are cut off, {found.count('no reading')} under none; "
        f"{found.count('not printed')} rest on numbers that the paper does not print, "
        f"{found.count('setting')} are settings."
    )


def markdown(readings: Sequence[Reading], *, title: str, notes: Sequence[str]) -> str:
    """One line a claim; ``notes`` are paragraphs between title and table, empty ones left out."""
    lines = [f"# {title}", ""]
    for note in [*notes, summary(readings)]:
        if note:
            lines += [note, ""]
    header = ("claim", "place", "says", "claimed", "nearest reading", "the paper's tables yield", "agrees", "ours")
    lines += [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    lines += [_line(its) for its in by_claim(readings)]
    return "\n".join([*lines, "", *_footnotes(readings)]).rstrip() + "\n"


def _line(its: Sequence[Reading]) -> str:
    one, claim = nearest(its), its[0].claim
    known = [reading for reading in its if reading.agrees != UNKNOWN]
    agreeing = sum(reading.agrees == YES for reading in known)
    how_many = f" ({agreeing} of {len(known)} readings)" if len(known) > 1 else ""
    if one.agrees == YES and not one.worded:
        how_many = f", in other words{how_many}"
    says = f"{claim.claim}{' *(implied)*' if claim.implied else ''}"
    cells = (
        claim.id, claim.place, says, claim.claimed, one.name, one.shown(one.paper), f"{one.agrees}{how_many}",
        one.shown(one.ours),
    )  # fmt: skip
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _footnotes(readings: Sequence[Reading]) -> Iterator[str]:
    for its in by_claim(readings):
        if its[0].claim.note:
            yield f"- {its[0].claim.id}: {its[0].claim.note}"
