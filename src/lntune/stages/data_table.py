"""data-table: what each training set and each benchmark was made of: records read, left out by reason, kept.

A row is the whole account of one set: the numbers of its reasons and of what was kept sum up to those read. Where the
catalogue knows what a public file holds, the row says so, and where ours differs and by how many.
"""

from collections.abc import Iterator

from pydantic import Field

from lntune.config import Frozen
from lntune.data.drops import Counts, read_counts
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("pandas",)


class Known(Frozen):
    """What the catalogue knows of a file: how many of what, and from where."""

    file: str
    counts: dict[str, int]
    source: str


class Row(Frozen):
    """One set: its name, what it is for, the scale's sources that it comes from, and what is known of their files."""

    name: str
    use: str
    source: str
    known: tuple[Known, ...] = Field(default=(), strict=False)


class Settings(Frozen):
    """What the table says besides its numbers; the rows are in the order of the inputs ``sets``."""

    name: str
    rows: tuple[Row, ...] = Field(strict=False)
    scale: str
    scale_note: str


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.csv, with a column for each reason that occurs, and NAME.md."""
    import pandas as pd

    settings = job.settings
    counted = [read_counts(folder) for folder in job.folders("sets")]
    reasons = sorted({reason for counts in counted for reason in counts.dropped})
    records = [
        {
            "set": row.name, "use": row.use, "source": row.source, "unit": counts.unit, "read": counts.read,
            **{f"dropped: {reason}": counts.dropped.get(reason, 0) for reason in reasons},
            "kept": counts.kept, "known": "; ".join(_known(row, counts)),
            "differs": "; ".join(_differences(row, counts)),
        }
        for row, counts in zip(settings.rows, counted, strict=True)
    ]  # fmt: skip
    pd.DataFrame(records).to_csv(job.out / f"{settings.name}.csv", index=False, lineterminator="\n")
    (job.out / f"{settings.name}.md").write_text(_markdown(settings, counted))
    return {"sets": len(records), "reasons": len(reasons)}


def _read(row: Row, counts: Counts) -> Iterator[tuple[Known, dict[str, int]]]:
    """Each file that was read of those that the catalogue knows counts of, and ours of what it knows."""
    for known in row.known:
        if known.file in counts.files:
            yield known, {what: counts.files[known.file].get(what, 0) for what in known.counts}


def _known(row: Row, counts: Counts) -> list[str]:
    """What is known of the files that were read, a text for each."""
    return [
        f"{known.file}: " + ", ".join(f"{number:,} {what}" for what, number in known.counts.items())
        for known, _ in _read(row, counts)
    ]


def _differences(row: Row, counts: Counts) -> list[str]:
    """Where ours differ, a text for each count."""
    return [
        f"{known.file}: {number:,} {what} instead of {known.counts[what]:,} ({number - known.counts[what]:+,})"
        for known, ours in _read(row, counts)
        for what, number in ours.items()
        if number != known.counts[what]
    ]


def _markdown(settings: Settings, counted: list[Counts]) -> str:
    lines = [
        "# What the data sets are made of",
        "",
        settings.scale_note,
        "",
        f"Scale: {settings.scale}. Records that were read, left out by reason, and kept (docs/filters.md).",
        "",
        "| Set | Use | Source | Read | Left out | Kept | Compared with what is known of the files |",
        "| --- | --- | --- | --: | --- | --: | --- |",
    ]
    sources: dict[str, None] = {}
    for row, counts in zip(settings.rows, counted, strict=True):
        dropped = "; ".join(f"{number:,} {reason}" for reason, number in counts.dropped.items()) or "-"
        kept = f"{counts.kept:,} {counts.unit}"
        differs = "**differs:** " + "; ".join(found) if (found := _differences(row, counts)) else "the same"
        compared = differs if _known(row, counts) else "-"
        lines.append(f"| {row.name} | {row.use} | {row.source} | {counts.read:,} | {dropped} | {kept} | {compared} |")
        texts = zip(_known(row, counts), _read(row, counts), strict=True)
        sources |= {f"- {text} ({known.source})": None for text, (known, _) in texts}
    if sources:
        lines += ["", "Known of the files:", "", *sources]
    return "\n".join(lines) + "\n"
