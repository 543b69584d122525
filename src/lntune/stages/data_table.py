"""data-table: what each training set and each benchmark was made of: records read, left out by reason, kept.

A row is the whole account of one set: the numbers of its reasons and of what was kept sum up to those read.
"""

from pydantic import Field

from lntune.config import Frozen
from lntune.data.drops import Counts, read_counts
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("pandas",)


class Row(Frozen):
    """One set: its name, what it is for, and the scale's sources that it comes from."""

    name: str
    use: str
    source: str


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
            "kept": counts.kept,
        }
        for row, counts in zip(settings.rows, counted, strict=True)
    ]  # fmt: skip
    pd.DataFrame(records).to_csv(job.out / f"{settings.name}.csv", index=False, lineterminator="\n")
    (job.out / f"{settings.name}.md").write_text(_markdown(settings, counted))
    return {"sets": len(records), "reasons": len(reasons)}


def _markdown(settings: Settings, counted: list[Counts]) -> str:
    lines = [
        "# What the data sets are made of",
        "",
        settings.scale_note,
        "",
        f"Scale: {settings.scale}. Records that were read, left out by reason, and kept (docs/filters.md).",
        "",
        "| Set | Use | Source | Read | Left out | Kept |",
        "| --- | --- | --- | --: | --- | --: |",
    ]
    for row, counts in zip(settings.rows, counted, strict=True):
        dropped = "; ".join(f"{number:,} {reason}" for reason, number in counts.dropped.items()) or "-"
        kept = f"{counts.kept:,} {counts.unit}"
        lines.append(f"| {row.name} | {row.use} | {row.source} | {counts.read:,} | {dropped} | {kept} |")
    return "\n".join(lines) + "\n"
