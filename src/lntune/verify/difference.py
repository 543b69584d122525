"""Where two versions of a file begin to differ, in a few words."""

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

_LONGEST = 60
_NOTHING: Any = object()


def difference(right: Path, found: Path) -> str:
    """Where ``found`` begins to differ from ``right``: ``CIDEr 99.2, not 41.3``; ``"a" in line 7, not "b"``."""
    try:
        texts = [path.read_text(encoding="utf-8") for path in (right, found)]
        if right.suffix == ".json":
            where, expected, value = next(_differing(*map(json.loads, texts)))
            return f"{where} {_short(value)}, not {_short(expected)}"
        lines = zip_longest(*(text.split("\n") for text in texts), fillvalue=_NOTHING)
        for number, (expected, value) in enumerate(lines, 1):
            if expected != value:
                return f"{_short(value)} in line {number}, not {_short(expected)}"
    except (ValueError, StopIteration):
        pass  # no text, or no JSON, or the same values written otherwise
    return "other bytes"


def differing_values(right: Any, found: Any) -> str:
    """The same of two JSON values; empty if they are equal."""
    for where, expected, value in _differing(right, found):
        return f"{where} {_short(value)}, not {_short(expected)}"
    return ""


def _differing(right: Any, found: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each place at which two JSON values differ, with both values."""
    if isinstance(right, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*right, *found]):
            inside = f"{where}.{key}" if where else key
            yield from _differing(right.get(key, _NOTHING), found.get(key, _NOTHING), inside)
    elif isinstance(right, list) and isinstance(found, list):
        for place, (one, other) in enumerate(zip_longest(right, found, fillvalue=_NOTHING)):
            yield from _differing(one, other, f"{where}[{place}]")
    elif type(right) is not type(found) or right != found:
        yield where, right, found


def _short(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
