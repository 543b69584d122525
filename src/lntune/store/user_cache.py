"""What is slow to compute and follows from contents alone, cached between processes in the user's cache folder.

    value = read("code", key)               # None: not cached, or damaged
    write("code", key, value)

``key`` is a hash of everything that the value follows from, so a value that is found is right, whoever wrote it and
whenever; nothing is ever out of date. The folder (``$XDG_CACHE_HOME/lntune``, or ``~/.cache/lntune``) may be deleted at
any time. Where it cannot be written, everything is computed each time.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from blake3 import blake3

from lntune.files import write_whole

NEWEST = 20
"""How many values of a kind are cached."""


def read(kind: str, key: str) -> Any | None:
    """The JSON value under a key; None if there is none, or if its file was damaged."""
    try:
        check, _, text = _path(kind, key).read_text(encoding="utf-8").partition("\n")
        return json.loads(text) if check == _check(key, text) else None
    except (OSError, RuntimeError, ValueError):
        return None


def write(kind: str, key: str, value: Any) -> None:
    """Cache a JSON value, and drop the oldest; where that is not possible, do nothing."""
    with suppress(OSError, RuntimeError):
        path, text = _path(kind, key), json.dumps(value, separators=(",", ":"))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{_check(key, text)}\n{text}")
        newest_first = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in newest_first[NEWEST:]:
            old.unlink(missing_ok=True)


def _path(kind: str, key: str) -> Path:
    """RuntimeError where there is no home folder."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return folder / "lntune" / kind / key


def _check(key: str, text: str) -> str:
    return blake3(f"{key}\n{text}".encode()).hexdigest()
