"""The catalogue of external files: where each comes from, its size, its sha256, its licence, and who may have it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lntune.config.base import Frozen

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class HubRepository(Frozen):
    """A repository of the Hugging Face hub at one revision: a commit, so that its files cannot change."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name")
    type: Literal["model", "dataset"]
    revision: str = Field(min_length=1, description="a commit of 40 digits, or a branch until one is known")


class FileEntry(Frozen):
    """One file, and where it lies.

    ``path`` is a file on disk (relative paths start at the repository's root), ``url`` an address for HTTP, ``member``
    its name in the entry's hub repository where that differs. With none of them it is the entry's hub file of the same
    name, or, in an entry without ``hub``, one that a person must get by hand. ``bytes`` and ``sha256`` are null where
    nobody published them: then the first download records them in workflow/catalog.lock.yaml, and later ones are
    checked against that.
    """

    path: str | None = None
    url: str | None = Field(default=None, pattern=r"^https?://")
    member: str | None = None
    hub: HubRepository | None = Field(default=None, description="a repository other than the entry's")
    bytes: int | None = Field(default=None, ge=0)
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "FileEntry":
        if sum(place is not None for place in (self.path, self.url, self.member or self.hub)) > 1:
            raise ValueError("give one of path, url and member")
        return self


class Entry(Frozen):
    """A set of files that belong together, such as an LLM's folder; the keys are the names they get."""

    about: str
    licence: str
    files: dict[str, FileEntry] = Field(min_length=1)
    hub: HubRepository | None = None
    gated: bool = Field(default=False, description="whether someone must grant access first")
    page: str | None = Field(default=None, description="where access is asked for, or files are to be had by hand")
    manual: str | None = Field(default=None, description="the step that a person must take, in one sentence")


class Catalog(Frozen):
    """``workflow/catalog.yaml``."""

    entries: dict[str, Entry]


class LockedFile(Frozen):
    """What the first download of a file found."""

    bytes: int = Field(ge=0)
    sha256: Sha256
    origin: str = Field(description="the address that it came from, with the hub's commit")


class CatalogLock(Frozen):
    """``workflow/catalog.lock.yaml``: entry, then file, to what was recorded."""

    entries: dict[str, dict[str, LockedFile]] = Field(default={})
