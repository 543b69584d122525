"""rehearsal: what was measured of each LLM and method before it trains: whether it fits, how fast, and what failed.

What was not measured is a blank cell. The hours are those of all trainings that the config's tables and figures ask of
an LLM and method: what comes before the first step of each, and the measured seconds of a usual step times their steps.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from lntune.config import Frozen
from lntune.report.published import table_lines
from lntune.stages.rehearse import REHEARSAL
from lntune.store.job import Job, Metrics, NoExecution
from lntune.units import bytes_text

PACKAGES = ("pandas",)


class Row(Frozen):
    """A cell of the study: how many trainings it takes, and how many optimiser steps they have in all."""

    model: str
    method: str
    trainings: int
    steps: int


class Settings(Frozen):
    """The rows, in the order of the inputs ``rehearsals``, and what the table says besides."""

    name: str
    rows: tuple[Row, ...] = Field(strict=False)
    scale: str
    scale_note: str


Execution = NoExecution

_YES = {True: "yes", False: "no", None: "-"}


def read(folder: Path) -> Any:
    """What a rehearsal has written."""
    return json.loads((folder / REHEARSAL).read_bytes())


def seconds(parts: Any, trainings: int, steps: float) -> float | None:
    """Of trainings with so many steps in all; None if no usual step was measured."""
    if "typical" not in parts:
        return None
    start = parts["load"]["seconds"] + parts["start"]["seconds"]
    return float(trainings * start + steps * parts["typical"]["seconds"])


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.csv, with all that was measured, and NAME.md, with what one looks at first."""
    import pandas as pd

    settings = job.settings
    records = [_record(row, read(folder)) for row, folder in zip(settings.rows, job.folders("rehearsals"), strict=True)]
    pd.json_normalize(records, sep=": ").to_csv(job.out / f"{settings.name}.csv", index=False, float_format="%.5g")
    (job.out / f"{settings.name}.md").write_text(_markdown(settings, records), encoding="utf-8")
    return {"rehearsals": len(records), "failed": sum(bool(one["failed"]) for one in records)}


def _record(row: Row, found: Any) -> dict[str, Any]:
    """A line of the CSV; columns of a part begin with its name."""
    parts, failures = found["parts"], found["failures"]
    took = seconds(parts, row.trainings, row.steps)
    return {
        "model": row.model,
        "method": row.method,
        "fits": "yes" if "typical" in parts else failures[0]["fits"] if failures else "not known",
        **found["compared"],
        "trainings": row.trainings,
        "hours": None if took is None else took / 3600,
        "failed": "; ".join(f"{one['part']}: {one['text']}" for one in failures),
        "remedy": "; ".join(dict.fromkeys(one["remedy"] for one in failures)),
        **parts,
    }


def _markdown(settings: Settings, records: list[dict[str, Any]]) -> str:
    on = ", ".join(sorted({one["load"]["gpu"] or "a CPU" for one in records if "load" in one})) or "nothing"
    about = (
        f"Scale: {settings.scale}. Measured on {on}. Memory: of a GPU, or without one, what a process grew by. Hours: "
        "of all trainings that the config asks for. Images: the time to read a step's, as a share of the step, which "
        "goes on meanwhile; above 1 it waits. Equal: after a resume, and repeated. The CSV has more."
    )
    rows = []
    for one in records:
        highest, peak = one.get("highest rate", {}), one.get("peak_bytes")
        end = f"diverged at step {highest['diverged_at']}" if highest.get("diverged_at") else "finite"
        rows.append(
            [
                *(one["model"], one["method"], one["fits"]),
                f"{bytes_text(peak) if peak else '-'} ({bytes_text(one['predicted_bytes'])})",
                _shown(one.get("typical", {}).get("tokens_per_second"), 0),
                _shown(one.get("mfu"), 2),
                _shown(one["hours"], 2),
                _shown(one.get("images", {}).get("share_of_step"), 2),
                ", ".join(_YES[one.get(key)] for key in ("equal_after_resume", "repeats")),
                f"{highest['rate']:g}: {end}" if highest else "-",
                f"{one['failed']}: {one['remedy']}" if one["failed"] else "-",
            ]
        )
    numbers = ("Memory (predicted)", "Tokens/s", "MFU", "Hours", "Images")
    header = ("Model", "Method", "Fits", *numbers, "Equal", "Top rate", "Failed")
    table = "\n".join(table_lines(header, rows, right=numbers))
    title = "# Rehearsal: what each LLM and method takes here"
    return "\n\n".join([title, settings.scale_note, about, table]) + "\n"


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
