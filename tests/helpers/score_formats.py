"""How the cells of benchmarks' columns are read, as a table's settings say it; and their per-item scores."""

from typing import Any

from lntune.benchmarks.registry import by_column
from lntune.report.cells import ScoreFormat


def formats_of(*columns: str) -> dict[str, dict[str, Any]]:
    """The setting ``formats`` of a table with these columns; captions need half of the answers in form."""
    found = {}
    for column in columns:
        known = by_column()[column]
        found[column] = {
            "values": [{"part": part, "keys": keys} for part, keys in known.parts.items()],
            "decimals": known.decimals,
            "measure": known.measure,
            "least": {"followed": 0.5} if known.split else {},
        }
    return found


def format_of(column: str) -> ScoreFormat:
    """The format of one column."""
    return ScoreFormat.model_validate(formats_of(column)[column])
