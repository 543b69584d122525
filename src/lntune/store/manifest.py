"""A store's layout, ``<root>/<stage>/<label>-<id>/manifest.json``, and the manifest: what made a result, and from what.

The label is for people; the id alone decides. The manifest is the last file that is written into a result's folder, and
the proof that the result is finished. Of the process environment it holds nothing but the SLURM job's number, so no
token can get into it.
"""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from lntune.config import Frozen, Hash
from lntune.errors import UserError
from lntune.files import write_whole
from lntune.store.identity import FileRecord, Identity, digest, input_name
from lntune.store.sharing import disk_trouble

MANIFEST = "manifest.json"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ID = re.compile(r"[0-9a-f]{12}")
_LONGEST_LABEL = 100

ResultId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


@dataclass(frozen=True)
class Store:
    """A folder of results, shared by any number of processes, checkouts and users."""

    root: Path

    def folder(self, stage: str, label: str, id: str) -> Path:
        """The folder of one result, finished or not."""
        assert _LABEL.fullmatch(stage), f"stage {stage!r} cannot be a folder's name"
        assert _LABEL.fullmatch(label) and len(label) <= _LONGEST_LABEL, f"label {label!r} is not a slug"
        assert _ID.fullmatch(id), f"{id!r} is no id"
        return self.root / stage / f"{label}-{id}"

    def manifest(self, stage: str, label: str, id: str) -> Path:
        """The one file that says that a result is finished."""
        return self.folder(stage, label, id) / MANIFEST

    def is_done(self, stage: str, label: str, id: str) -> bool:
        """Whether the result is finished."""
        return self.manifest(stage, label, id).is_file()

    def scratch(self, stage: str, id: str) -> Path:
        """Where a stage keeps what outlives a failed attempt, whose own folder is deleted by the next one."""
        assert _LABEL.fullmatch(stage) and _ID.fullmatch(id), f"{stage!r}, {id!r}"
        return self.root / ".scratch" / f"{stage}-{id}"


def slug(parts: Iterable[object]) -> str:
    """A label: ``["LoRA", 1e-4, "v1 chat"]`` -> ``LoRA-0.0001-v1-chat``; ValueError if nothing readable is left."""
    words = (re.sub(r"[^A-Za-z0-9._-]+", "-", str(part)).strip("-") for part in parts)
    label = "-".join(word for word in words if word).lstrip("._-")[:_LONGEST_LABEL].rstrip("._-")
    if not label:
        raise ValueError("a label needs at least one letter or digit")
    return label


class _Named(Frozen):
    """What names a result."""

    stage: str
    label: str
    id: ResultId

    @property
    def name(self) -> str:
        """The result's folder, below the store."""
        return f"{self.stage}/{self.label}-{self.id}"


class InputRecord(_Named):
    """A result that this one was made from, or the folder ``part`` of it; ``content`` is the digest of its files."""

    content: Hash
    part: str | None = None


class Origin(Frozen):
    """The result of the same stage that did the work whose files are linked here, and when they were linked."""

    label: str
    id: ResultId
    linked: AwareDatetime


class Git(Frozen):
    """The commit of the checkout that the code came from, and whether it held uncommitted changes."""

    commit: str
    dirty: bool


class Machine(Frozen):
    """Where a result was made. ``cores`` are those that the process was allowed to use."""

    host: str
    cpu: str
    cores: int
    gpus: tuple[str, ...]
    ranks: int
    slurm_job_id: str | None


class Change(Frozen):
    """What a module's digest or a package's version was, and is; null where there was or is none."""

    was: str | None
    now: str | None


class AcceptedEdit(Frozen):
    """An edit that was declared equivalent: the modules (digest of their meaning) and packages that it changed."""

    stage: str
    because: str = Field(min_length=1)
    date: str
    code: dict[str, Change]
    packages: dict[str, Change]


class Manifest(_Named):
    """All that is recorded of a finished result.

    ``settings``, ``code``, ``packages``, ``environment`` and the ids in ``inputs`` make the ``id``; ``execution``
    shapes the run and not the numbers (micro-batch, threads). Times and memory are those of the attempt that finished:
    the CPU's is that of the work alone, without hashing (None before it was noted), the memory that of the largest
    single process.
    Where ``origin`` is set, the files were linked from that result, and ``execution`` and ``git`` to ``metrics``
    describe the work that it did. Where ``accepted`` is not empty, the code or packages that ran differ from ``code``
    and ``packages`` by edits that someone declared to change no result.
    """

    settings: dict[str, JsonValue]
    execution: dict[str, JsonValue]
    inputs: dict[str, InputRecord | tuple[InputRecord, ...]]
    outputs: dict[str, FileRecord]
    content: Hash
    code: dict[str, Hash]
    packages: dict[str, str]
    git: Git | None
    seed: int | None
    machine: Machine
    started: AwareDatetime
    ended: AwareDatetime
    wall_seconds: float
    peak_memory_bytes: int
    metrics: dict[str, JsonValue]
    cpu_seconds: float | None = None
    origin: Origin | None = None
    accepted: tuple[AcceptedEdit, ...] = ()
    environment: Mapping[str, str] = {}

    def identity(self) -> Identity:
        """The identity that this manifest describes; its id is the manifest's unless someone edited it."""
        return Identity(self.stage, self.settings, self.code, self.packages, input_names(self.inputs), self.environment)

    def parents(self) -> Iterator[tuple[str, InputRecord]]:
        """Role and record of every input, in the order of the roles."""
        for role, record in self.inputs.items():
            for one in (record,) if isinstance(record, InputRecord) else record:
                yield role, one

    def part_content(self, part: str | None) -> str:
        """The content digest of a folder in this result, its files named from there; of everything for None."""
        if part is None:
            return self.content
        start = f"{part}/"
        return content_digest({k.removeprefix(start): v for k, v in self.outputs.items() if k.startswith(start)})


def content_digest(outputs: Mapping[str, FileRecord]) -> str:
    """One hash over all outputs' paths and contents: equal exactly if two results hold the same files."""
    return digest({path: record.blake3 for path, record in outputs.items()})


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest; UserError names one that is missing or damaged."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such manifest; this result has not been made yet") from error
    except OSError as error:
        raise disk_trouble(error) or UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise UserError(f"{path}: damaged manifest ({where}: {first['msg']}); {remedy(path.parent)}") from error


def remedy(*folders: Path) -> str:
    """What to do about damaged results, in words with the command."""
    manifests = shlex.join(str(folder / MANIFEST) for folder in folders)
    return f"`rm -r {shlex.join(map(str, folders))} && snakemake {manifests}` makes it again"


def input_names(inputs: Mapping[str, InputRecord | tuple[InputRecord, ...]]) -> dict[str, str | list[str]]:
    """The inputs as an identity names them."""
    return {
        role: input_name(record.id, record.part)
        if isinstance(record, InputRecord)
        else [input_name(one.id, one.part) for one in record]
        for role, record in inputs.items()
    }


def input_record(folder: Path) -> InputRecord:
    """The record of a finished result that is an input, or of a folder in one; UserError without a whole manifest."""
    part = folder.name if folder.is_dir() and (folder.parent / MANIFEST).is_file() else None
    manifest = read_manifest((result := folder if part is None else folder.parent) / MANIFEST)
    if (manifest.stage, f"{manifest.label}-{manifest.id}") != (result.parent.name, result.name):
        raise UserError(f"{result / MANIFEST}: damaged manifest (it says {manifest.name}); {remedy(result)}")
    content = manifest.part_content(part)
    return InputRecord(stage=manifest.stage, label=manifest.label, id=manifest.id, part=part, content=content)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest so that at every moment there is either none or all of it, even after a power cut."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, text, durable=True)


def differences(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, Change]:
    """Every name whose value is not the same in both."""
    names = sorted({*was, *now})
    return {name: Change(was=was.get(name), now=now.get(name)) for name in names if was.get(name) != now.get(name)}


def undone(
    stage: str, code: Mapping[str, str], packages: Mapping[str, str], edits: Sequence[AcceptedEdit]
) -> tuple[dict[str, str], dict[str, str], tuple[AcceptedEdit, ...]]:
    """Code and packages as they were before the accepted edits, and the edits that were in force.

    The newest first, each is undone once all that it changed is as it left it, be it because another was undone.
    """
    code, packages, used = dict(code), dict(packages), []
    left = [edit for edit in reversed(edits) if edit.stage == stage]
    while edit := next((one for one in left if _holds(one.code, code) and _holds(one.packages, packages)), None):
        for changes, values in ((edit.code, code), (edit.packages, packages)):
            for name, change in changes.items():
                values.pop(name, None)
                if change.was is not None:
                    values[name] = change.was
        left.remove(edit)
        used.append(edit)
    return code, packages, tuple(used)


def _holds(changes: Mapping[str, Change], values: Mapping[str, str]) -> bool:
    return all(values.get(name) == change.now for name, change in changes.items())
