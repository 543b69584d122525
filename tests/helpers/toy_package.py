"""Packages written for one test, to be imported by it."""

import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest


def write_package(folder: Path, files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a package's files into a folder that has its name, and let Python find it; return the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(folder.parent)
    importlib.invalidate_caches()
    return folder
