"""The catalogue of external files: where each comes from, its size, its sha256, its licence, and who may have it."""

import re
import threading
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, Field, model_validator

from lntune.config import Frozen, Hash
from lntune.config.llm_shape import LlmShape
from lntune.config.load import load, shown
from lntune.errors import UserError
from lntune.files import locked, write_whole

CATALOG = Path("workflow/catalog.yaml")
LOCK = Path("workflow/catalog.lock.yaml")
ORIGINS = "origins.json"
"""Beside the files of a fetched entry: of each its bytes, its sha256 and where it came from."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or name in ("manifest.json", ORIGINS):
        raise ValueError(f"a file cannot be called {name!r}: it gets that name in the entry's folder")
    return name


def _without_password(url: str) -> str:
    if not re.fullmatch(r"https?://[^/@\s]+/\S+", url):
        raise ValueError("expected an address for HTTP, without a password in it")  # which is not repeated
    return url


Url = Annotated[str, AfterValidator(_without_password)]
FileName = Annotated[str, Field(min_length=1), AfterValidator(_inside)]


class HubRepository(Frozen):
    """A repository of the Hugging Face hub at one revision: a commit, so that its files cannot change."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name")
    type: Literal["model", "dataset"]
    revision: str = Field(min_length=1, description="a commit of 40 digits, or a branch until one is known")


Fields = dict[str, bool | int | str]
"""Dotted keys of a JSON file, each to its value."""


class Holds(Frozen):
    """What a public file is known to hold, and from where that is known.

    ``fields`` are checked when the file is fetched; ``counts`` are compared with ours in tables/data.csv.
    """

    source: str
    fields: Fields = Field(default={})
    counts: dict[str, int] = Field(default={}, description='what is counted ("records", "images of test") to how many')


class Place(Frozen):
    """Where one file lies: on this disk, at an address, or in a repository of the hub; else a person must get it."""

    path: str | None = None
    url: str | None = None
    hub: HubRepository | None = None
    member: str | None = Field(default=None, description="its name in the hub's repository")
    bytes: int | None = None
    fields: Fields = Field(default={}, description="what must stand in it")

    @property
    def address(self) -> str | None:
        """Where it comes from, in one word: a path, a URL, or ``hf://datasets/owner/name@revision/member``."""
        return self.path or self.url or (self.hub_address(self.hub.revision) if self.hub else None)

    def hub_address(self, revision: str) -> str:
        """The hub file's address at a revision, as huggingface_hub writes it."""
        assert self.hub is not None, "only for files of the hub"
        kind = "datasets/" if self.hub.type == "dataset" else ""
        return f"hf://{kind}{self.hub.repo}@{revision}/{self.member}"


def web_address(address: str) -> str | None:
    """The address that a browser takes, of a URL or a file of the hub (``hf://``); None of anything else."""
    if address.startswith("hf://"):
        repository, _, rest = address.removeprefix("hf://").partition("@")
        revision, _, member = rest.partition("/")
        return f"https://huggingface.co/{repository}/resolve/{revision}/{member}"
    return address if address.startswith(("http://", "https://")) else None


class FileEntry(Frozen):
    """One file, and where it lies.

    ``path`` is a file on disk (relative paths start at the repository's root), ``url`` an address for HTTP, ``member``
    its name in the entry's hub repository where that differs. With none of them it is the entry's hub file of the same
    name, or, in an entry without ``hub``, one that a person must get by hand. Where nobody published ``bytes`` and
    ``sha256`` they are null: the first download records them in workflow/catalog.lock.yaml, and later ones must agree.
    """

    path: str | None = None
    url: Url | None = None
    member: str | None = None
    hub: HubRepository | None = Field(default=None, description="a repository other than the entry's")
    bytes: int | None = Field(default=None, ge=0)
    sha256: Hash | None = None
    holds: Holds | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "FileEntry":
        if sum(place is not None for place in (self.path, self.url, self.member or self.hub)) > 1:
            raise ValueError("give one of path, url and member")
        return self


class Entry(Frozen):
    """A set of files that belong together, such as an LLM's folder; the keys are the names they get."""

    about: str
    licence: str
    files: dict[FileName, FileEntry] = Field(min_length=1)
    shape: LlmShape | None = Field(default=None, description="an LLM's, known before its config.json is there")
    hub: HubRepository | None = None
    gated: bool = Field(default=False, description="whether someone must grant access first")
    page: str | None = Field(default=None, description="where access is asked for, or files are to be had by hand")
    manual: str | None = Field(default=None, description="the step that a person must take, in one sentence")

    @model_validator(mode="after")
    def _repository_of_members(self) -> "Entry":
        for name, file in self.files.items():
            if file.member and not (file.hub or self.hub):
                raise ValueError(f"{name} is a member of a hub repository; say which under hub")
        return self

    def place(self, name: str) -> Place:
        """Where a file lies."""
        file = self.files[name]
        hub = None if file.path or file.url else file.hub or self.hub
        member, fields = (file.member or name) if hub else None, file.holds.fields if file.holds else {}
        return Place(path=file.path, url=file.url, hub=hub, member=member, bytes=file.bytes, fields=fields)


class Catalog(Frozen):
    """``workflow/catalog.yaml``."""

    entries: dict[str, Entry]


class LockedFile(Frozen):
    """What a download found."""

    bytes: int = Field(ge=0)
    sha256: Hash
    origin: str = Field(description="the address that it came from, with the hub's commit")


class CatalogLock(Frozen):
    """``workflow/catalog.lock.yaml``: entry, then file, to what the first download recorded."""

    entries: dict[str, dict[str, LockedFile]] = Field(default={})


_HEADER = """\
# What the first download of a file found that workflow/catalog.yaml does not pin: written by the jobs that fetch, and
# to be committed. A file that turns out otherwise later is refused. docs/data.md says how to pin and how to correct it.
"""

_THREADS = threading.Lock()


def read_lock(path: Path) -> CatalogLock:
    """All that was recorded; nothing without the file. UserError if it is not as it should be."""
    if not path.is_file() or not path.stat().st_size:
        return CatalogLock()
    return load(path, CatalogLock)


def record_found(path: Path, entry: str, name: str, found: LockedFile) -> LockedFile:
    """Record what a download found, unless something is recorded; return that. UserError if the file is not usable."""
    try:
        with _THREADS, locked(path.with_name(f".{path.name}.lock"), lambda: True):
            entries = {known: dict(files) for known, files in read_lock(path).entries.items()}
            recorded = entries.setdefault(entry, {}).setdefault(name, found)
            if recorded is found:
                plain = {
                    known: {file: one.model_dump() for file, one in sorted(files.items())}
                    for known, files in sorted(entries.items())
                }
                write_whole(path, _HEADER + yaml.safe_dump({"entries": plain}, sort_keys=False, width=200))
            return recorded
    except OSError as error:
        raise UserError(
            f"{shown(path)}: what was found of {entry}: {name} cannot be recorded ({error.strerror}); make it writable"
        ) from None
