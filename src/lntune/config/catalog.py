"""The catalogue of external files: where each comes from, its size, its sha256 and its licence."""

from typing import Annotated

from pydantic import Field

from lntune.config.base import Frozen

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Frozen):
    """One file: its path on disk (relative paths start at the repository's root), bytes and sha256."""

    path: str
    bytes: int = Field(ge=0)
    sha256: Sha256


class Entry(Frozen):
    """A set of files that belong together, such as an LLM's folder; the keys are the names they get."""

    about: str
    licence: str
    files: dict[str, FileEntry] = Field(min_length=1)


class Catalog(Frozen):
    """``workflow/catalog.yaml``."""

    entries: dict[str, Entry]
