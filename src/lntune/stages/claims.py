"""claims: what the paper's sentences come to on the paper's own tables, and on ours.

All that is read of the paper is settled by the digests of its files; our tables are inputs. A claim that asks for a
table that is not among them has no value of ours. claims.csv has every reading of a claim; claims.md has one line a
claim, with the reading that comes nearest.
"""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from lntune.config.load import load
from lntune.paper.claims import CUT, UNKNOWN, YES, Claims, Reading, assess, by_claim, verdicts
from lntune.paper.formula import Tables
from lntune.paper.printed import CLAIMS, Execution, Settings, check, read_own, read_tables
from lntune.report import published
from lntune.store.job import Job, Metrics

PACKAGES = ()

TITLE = "The paper's claims, on the paper's tables and on ours"


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write claims.csv and claims.md."""
    settings = job.settings
    files = check(job.execution.paths, settings.files)
    paper = read_tables(files)
    own = read_own(settings.tables, job.folders("tables"))
    readings = assess(
        load(files[CLAIMS], Claims),
        paper=Tables(one for figures in paper.values() for one in figures),
        ours=Tables(one for figures in own.values() for one in figures),
    )
    write_csv(job.out / "claims.csv", readings)
    ours = f"Ours: {', '.join(own) or 'no table yet'}. Scale: {settings.scale}. Protocol: {settings.protocol}."
    how = "One line a claim, with the reading that comes nearest to it; claims.csv has all of them, with formulas."
    text = markdown(readings, title=TITLE, notes=(settings.scale_note, ours, how))
    (job.out / "claims.md").write_text(text, encoding="utf-8")
    found = list(verdicts(readings).values())
    return {"claims": len(found), "readings": len(readings), "agree": found.count("agrees")}


COLUMNS = (
    "id", "place", "claim", "kind", "claimed", "implied", "reading", "as_worded", "formula", "paper_tables_yield",
    "agrees", "ours", "ours_agrees", "ours_missing", "note",
)  # fmt: skip
"""The header of claims.csv."""


def write_csv(path: Path, readings: Sequence[Reading]) -> None:
    """Every reading, a line each."""
    lines = [
        (
            one.claim.id, one.claim.place, one.claim.claim, one.claim.kind, one.claim.claimed,
            "yes" if one.claim.implied else "", one.name, ("yes" if one.worded else "no") if one.name else "",
            one.formula, one.shown(one.paper), one.agrees, one.shown(one.ours), one.ours_agrees, one.missing,
            one.claim.note,
        )
        for one in readings
    ]  # fmt: skip
    published.write_csv(path, [COLUMNS, *lines])


def nearest(its: Sequence[Reading]) -> Reading:
    """Of one claim's readings the first that agrees, as worded if one does; else the one with the nearest value."""

    def distance(one: Reading) -> tuple[int, bool, float]:
        rank = [YES, CUT].index(one.agrees) if one.agrees in (YES, CUT) else 2
        far = float("inf") if one.paper is None else abs(one.paper - float(Decimal(one.claim.value)))
        return rank, not one.worded, 0.0 if rank == 0 else far

    return min(its, key=distance)


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
    lines = [line for paragraph in (f"# {title}", *notes, summary(readings)) if paragraph for line in (paragraph, "")]
    header = ("claim", "place", "says", "claimed", "nearest reading", "the paper's tables yield", "agrees", "ours")
    lines += published.table_lines(header, map(_cells, by_claim(readings)))
    footnotes = [f"- {its[0].claim.id}: {its[0].claim.note}" for its in by_claim(readings) if its[0].claim.note]
    lacking = {one.claim.id: one.missing for one in readings if one.missing}
    footnotes += [f"- {name}: ours is missing: {cell}" for name, cell in lacking.items()]
    return "\n".join([*lines, "", *footnotes]).rstrip() + "\n"


def _cells(its: Sequence[Reading]) -> list[str]:
    one, claim = nearest(its), its[0].claim
    known = [reading for reading in its if reading.agrees != UNKNOWN]
    agreeing = sum(reading.agrees == YES for reading in known)
    how_many = f" ({agreeing} of {len(known)} readings)" if len(known) > 1 else ""
    if one.agrees == YES and not one.worded:
        how_many = f", in other words{how_many}"
    says = f"{claim.claim}{' *(implied)*' if claim.implied else ''}"
    return [
        claim.id, claim.place, says, claim.claimed, one.name, one.shown(one.paper), f"{one.agrees}{how_many}",
        "-" if one.missing else one.shown(one.ours),
    ]  # fmt: skip
