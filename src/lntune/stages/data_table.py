"""data-table: what each training set and each benchmark was made of: records read, left out by reason, kept.

A row is the whole account of one set: the numbers of its reasons and of what was kept sum up to those read. Where the
catalogue knows what a public file holds, the row says so, and where ours differs and by how many.
"""

from pydantic import Field

from lntune.config import Frozen
from lntune.data.drops import Counts, read_counts
from lntune.report.published import table_lines
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
            "kept": counts.kept, "known": "; ".join(text for text, _ in known), "differs": "; ".join(differs),
        }
        for row, counts in zip(settings.rows, counted, strict=True)
        for known, differs in [_compared(row, counts)]
    ]  # fmt: skip
    pd.DataFrame(records).to_csv(job.out / f"{settings.name}.csv", index=False, lineterminator="\n")
    (job.out / f"{settings.name}.md").write_text(_markdown(settings, counted), encoding="utf-8")
    return {"sets": len(records), "reasons": len(reasons)}


def _compared(row: Row, counts: Counts) -> tuple[list[tuple[str, str]], list[str]]:
    """Of each file that was read what is known, and by whom; and a text for each count of ours that differs."""
    texts, differs = [], []
    for known in row.known:
        if known.file in counts.files:
            of_file = ", ".join(f"{number:,} {what}" for what, number in known.counts.items())
            texts.append((f"{known.file}: {of_file}", known.source))
            for what, right in known.counts.items():
                if (ours := counts.files[known.file].get(what, 0)) != right:
                    differs.append(f"{known.file}: {ours:,} {what} instead of {right:,} ({ours - right:+,})")
    return texts, differs


def _markdown(settings: Settings, counted: list[Counts]) -> str:
    rows, sources = [], dict[str, None]()
    for row, counts in zip(settings.rows, counted, strict=True):
        dropped = "; ".join(f"{number:,} {reason}" for reason, number in counts.dropped.items()) or "-"
        kept = f"{counts.kept:,} {counts.unit}"
        known, differs = _compared(row, counts)
        compared = f"**differs:** {'; '.join(differs)}" if differs else "the same" if known else "-"
        rows.append((row.name, row.use, row.source, f"{counts.read:,}", dropped, kept, compared))
        sources |= {f"- {text} ({source})": None for text, source in known}
    header = ("Set", "Use", "Source", "Read", "Left out", "Kept", "Compared with what is known of the files")
    about = f"Scale: {settings.scale}. Records that were read, left out by reason, and kept (docs/filters.md)."
    table = "\n".join(table_lines(header, rows, right=("Read", "Kept")))
    below = ["Known of the files:", "\n".join(sources)] if sources else []
    return "\n\n".join(["# What the data sets are made of", settings.scale_note, about, table, *below]) + "\n"
