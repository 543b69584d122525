"""fetch: one entry of the catalogue, brought into the store and checked.

Its files are downloaded, or copied from where they lie already; docs/data.md says what they are checked against.
What has arrived stays in the job's scratch folder until all is there, so that a killed job goes on where it was.
Beside the files lies ``origins.json``: of each its bytes, its sha256 and where it came from.
"""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from functools import partial, reduce
from pathlib import Path

from pydantic import Field, model_validator

from lntune.config import Frozen, Hash
from lntune.config.catalog import (
    CATALOG,
    LOCK,
    ORIGINS,
    FileName,
    HubRepository,
    LockedFile,
    Place,
    read_lock,
    record_found,
)
from lntune.download.http import Download, Expected, Remote, RetryPolicy, StoppedError
from lntune.download.hub import HubFiles, commit_of
from lntune.download.local import Partial, bring_in, discard
from lntune.errors import UserError
from lntune.progress import Progress, track
from lntune.store.job import Job, Metrics
from lntune.units import bytes_text

PACKAGES = ()

COPY = "a copy on disk"
"""How the origin of a file begins that did not come from its address."""


class Settings(Frozen):
    """What the files are: of those that the catalogue pins the sha256 by name, of the others the address.

    What the first download recorded of the latter is no part of it, so that recording it renames nothing.
    """

    files: dict[FileName, Hash] = Field(default={})
    addresses: dict[FileName, str] = Field(default={})

    @model_validator(mode="after")
    def _some(self) -> "Settings":
        if not self.files and not self.addresses:
            raise ValueError("an entry has at least one file")
        return self


class Execution(Frozen):
    """What the entry is, where each file lies, and the retry policy of its download.

    Relative paths start at ``root``. ``copies`` are paths of files that lie on a disk already; ``lock`` is where
    finds are recorded.
    """

    entry: str
    about: str
    licence: str
    places: dict[str, Place]
    root: str
    lock: str
    gated: bool = False
    page: str | None = None
    manual: str | None = None
    copies: dict[str, str] = Field(default={})
    at_once: int = Field(default=4, ge=1, description="files that are brought in at the same time")
    attempts: int = Field(default=8, ge=1)
    pause: float = Field(default=1.0, ge=0, description="seconds before the second attempt")
    timeout: float = Field(default=60.0, gt=0, description="seconds without a byte")


def run(job: Job[Settings, Execution]) -> Metrics:
    """Bring in the entry's files."""
    _check_by_hand(job.execution)
    folder = job.scratch / "files"
    folder.mkdir(parents=True, exist_ok=True)
    found = _Fetching(job, folder).all()
    for name in found:
        target = job.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / name, target)
    origins = {name: one.model_dump() for name, one in sorted(found.items())}
    (job.out / ORIGINS).write_text(json.dumps(origins, indent=1) + "\n", encoding="utf-8")
    return {"bytes": sum(one.bytes for one in found.values())}


def _check_by_hand(execution: Execution) -> None:
    """UserError if a file is to be had by hand alone, and no copy of it was named."""
    for name, place in execution.places.items():
        if place.address is None and name not in execution.copies:
            step = (execution.manual or "its owner gives it on request").rstrip(".")
            page = f" ({execution.page})" if execution.page else ""
            raise UserError(
                f"{execution.entry}: {name} is to be had by hand: {step}{page}; then name its folder in config.yaml, "
                f"as copies: {{{execution.entry}: FOLDER}}"
            )


class _Fetching:
    """One run of the stage."""

    def __init__(self, job: Job[Settings, Execution], folder: Path) -> None:
        self._execution, self._label, self._folder = job.execution, job.label, folder
        self._pinned, self._lock = job.settings.files, Path(job.execution.lock)
        self._recorded = read_lock(self._lock).entries.get(job.execution.entry, {})
        self._hub = HubFiles(job.execution.gated, job.execution.page, self._commits(), job.execution.timeout)
        self._policy = RetryPolicy(job.execution.attempts, job.execution.pause, job.execution.timeout)
        self._stop = threading.Event()

    def _commits(self) -> dict[HubRepository, str]:
        """The commit of each repository of the hub of which a file was recorded."""
        found = {}
        for name, file in self._recorded.items():
            place, commit = self._execution.places.get(name), commit_of(file.origin)
            if place is not None and place.hub is not None and commit is not None:
                found[place.hub] = commit
        return found

    def all(self) -> dict[str, LockedFile]:
        """Every file, several at a time; the first that cannot be had ends the others."""
        names = list(self._execution.places)
        sizes = {name: self._size(name) for name in names}
        arrived = {name: 0 if self._source(name) else Partial.arrived(self._folder / name) for name in names}
        missing = sum(max(0, (sizes[name] or 0) - arrived[name]) for name in names if not self._linked(name))
        self._check_room(missing)
        total = sum(max(sizes[name] or 0, arrived[name]) for name in names)
        with track(total, self._label, "bytes", done=sum(arrived.values())) as progress:
            pool = ThreadPoolExecutor(self._execution.at_once)
            futures = {pool.submit(self._one, name, progress): name for name in names}
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                wait(futures, timeout=1.0)  # a server that stalls would hold up the reason for a minute
                raise
            pool.shutdown()
        return {name: future.result() for future, name in futures.items()}

    # --- how much there is --------------------------------------------------------------------------------------------

    def _source(self, name: str) -> Path | None:
        """Where a file lies on a disk already, if it does."""
        path = self._execution.copies.get(name) or self._execution.places[name].path
        return None if path is None else Path(self._execution.root, path)

    def _linked(self, name: str) -> bool:
        """Whether a file will take no room, since it is linked."""
        source = self._source(name) if name in self._execution.copies else None
        return source is not None and source.exists() and source.stat().st_dev == self._folder.stat().st_dev

    def _size(self, name: str) -> int | None:
        """Bytes of a file, if that is known."""
        source, known = self._source(name), self._execution.places[name].bytes
        if source is not None:
            return source.stat().st_size if source.is_file() else 0
        return self._recorded[name].bytes if known is None and name in self._recorded else known

    def _check_room(self, missing: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if missing > free:
            raise UserError(
                f"{self._execution.entry}: {bytes_text(missing)} are still to come and do not fit on the store's disk "
                f"({bytes_text(free)} free at {self._folder}); make room, or name another store in config.yaml"
            )

    # --- one file ---------------------------------------------------------------------------------------------------

    def _one(self, name: str, progress: Progress) -> LockedFile:
        """Bring in a file, check it, and record what it is if nobody pinned it."""
        if self._stop.is_set():
            raise StoppedError
        source = self._source(name)
        found = self._download(name, progress) if source is None else self._from_disk(name, source, progress)
        self._check_fields(name)
        if name not in self._pinned:
            recorded = record_found(self._lock, self._execution.entry, name, found)
            if recorded.sha256 != found.sha256:  # another job was first, since ours began
                raise UserError(
                    f"{self._execution.entry}: {name}: its sha256 is {found.sha256}, {LOCK} says {recorded.sha256}; "
                    f"two downloads differ: find out which is right"
                )
        return found

    def _expected(self, name: str) -> Expected:
        if name in self._recorded and name not in self._pinned:
            return Expected(self._recorded[name].bytes, self._recorded[name].sha256, str(LOCK))
        return Expected(self._execution.places[name].bytes, self._pinned.get(name), str(CATALOG))

    def _download(self, name: str, progress: Progress) -> LockedFile:
        place, shown = self._execution.places[name], f"{self._execution.entry}: {name}"
        remote: Callable[[], Remote]
        if place.hub is not None and place.member is not None:
            remote = partial(self._hub.remote, shown, place.hub, place.member)
        else:
            assert place.url is not None
            shown, remote = f"{shown} ({place.url})", partial(Remote, place.url)

        got, expected = Partial(self._folder / name), self._expected(name)
        Download(shown, remote, got, expected, self._policy, progress.advance, self._check_room, self._stop).run()
        return LockedFile(bytes=got.size, sha256=got.sha256, origin=place.url or self._hub.origin(place))

    def _from_disk(self, name: str, source: Path, progress: Progress) -> LockedFile:
        place, path, expected = self._execution.places[name], self._folder / name, self._expected(name)
        discard(path)  # what a download brought before
        copied = name in self._execution.copies
        if copied:
            where = f"the folder that config.yaml names under copies.{self._execution.entry}"
            missing = f"no such file in {where}; put it there, or remove the key"
            remedy = f"{where} holds another file: name the right one, or remove the key"
            origin = f"{COPY}, for {place.address or 'what is to be had by hand'}"
        else:
            missing = f"no such file; the catalogue lists it ({CATALOG})"
            origin, remedy = str(place.path), "restore the file, or pin it again with `lntune pin`"
        sha256 = bring_in(source, path, progress.advance, missing, as_link=copied)
        size, fault = path.stat().st_size, None
        if expected.sha256 is not None and sha256 != expected.sha256:
            fault = f"its sha256 is {sha256}, {expected.stated_by} says {expected.sha256}"
        elif expected.bytes is not None and size != expected.bytes:
            fault = f"it has {size} bytes, {expected.stated_by} says {expected.bytes}"
        if fault is not None:
            path.unlink()
            raise UserError(f"{source}: {fault}; {remedy}")
        return LockedFile(bytes=size, sha256=sha256, origin=origin)

    def _check_fields(self, name: str) -> None:
        """UserError for a JSON file in which something else stands than must."""
        path, fields = self._folder / name, self._execution.places[name].fields
        try:
            document = json.loads(path.read_bytes()) if fields else None
            held = {key: reduce(lambda part, one: part.get(one), key.split("."), document) for key in fields}
        except (ValueError, AttributeError):
            held = {}
        for key, wanted in fields.items():
            if held.get(key) != wanted:
                discard(path)
                is_held, must = (json.dumps(value) for value in (held.get(key), wanted))
                raise UserError(
                    f"{self._execution.entry}: {name}: {key} is {is_held}, {CATALOG} says {must}: it belongs to other "
                    f"weights or is of another version; name the right revision or file in the catalogue"
                )
