"""Leases: which results each checkout needs of a store that several share, so that nobody collects another's.

A lease is a small file ``<store>/.leases/<digest of host and folder>.json``. Every run of a workflow writes its
checkout's again, naming all results of its plan. It stays until someone drops it (:func:`forget_lease`).
"""

import getpass
import json
import os
import re
import secrets
import socket
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from lntune.errors import UserError
from lntune.files import is_locked, locked, write_whole
from lntune.store.identity import digest
from lntune.store.manifest import Store


def host_name() -> str:
    """This host as it stands in the names of temporary folders, between their dots."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def is_alive(pid: int) -> bool:
    """Whether a process of this host lives, whosever it is."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no system counts that far
        return False
    except PermissionError:
        pass  # it lives, and is another user's
    return True


_LEASES = ".leases"
_RUNS = Path(".snakemake") / "runs"
_OWN_RUN = f"{host_name()}.{os.getpid()}.{secrets.token_hex(4)}"


def run_lock(checkout: Path) -> AbstractContextManager[bool]:
    """Hold the sign that this process runs a workflow in a checkout; it ends with the process, however that ends."""
    return locked(checkout / _RUNS / _OWN_RUN, lambda: True)


def other_run(checkout: Path) -> Path | None:
    """The sign, named after host and process, of another run of a workflow that is at work in a checkout."""
    return next((sign for sign in (checkout / _RUNS).glob("*") if sign.name != _OWN_RUN and is_locked(sign)), None)


class Lease(BaseModel):
    """What a checkout said that it needs: the results' folders below the store, as ``stage/label-id``."""

    # A later lntune may have more to say; a lease that cannot be read would protect nothing.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    checkout: str
    user: str
    host: str
    written: AwareDatetime
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lease's holder and day in words."""
        return f"{self.checkout} of {self.user} on {self.host} on {self.written:%Y-%m-%d}"

    @property
    def file(self) -> str:
        """The name of the lease's file, one for each folder of a host."""
        return f"{digest([self.host, self.checkout])[:24]}.json"


def write_lease(store: Store, checkout: Path, names: Collection[str]) -> Lease:
    """Lease results, ``stage/label-id``, made or not, for a checkout, in place of all but what a run at work there has.

    Raises OSError if the store cannot be written; the lease is then as it was.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = f"user {os.getuid()}"
    lease = Lease(
        checkout=str(checkout.resolve()),
        user=user,
        host=socket.gethostname(),
        written=datetime.now(UTC),
        names=tuple(sorted(set(names))),
    )
    path = store.root / _LEASES / lease.file
    with locked(path.with_suffix(".lock"), lambda: True):
        if other_run(checkout):
            with suppress(OSError, ValidationError):
                before = Lease.model_validate_json(path.read_bytes()).names
                lease = lease.model_copy(update={"names": tuple(sorted({*before, *names}))})
        write_whole(path, json.dumps(lease.model_dump(mode="json"), indent=1) + "\n")
    return lease


def read_leases(store: Store) -> list[Lease]:
    """All leases on a store, by checkout; UserError if one cannot be read, so that nobody knows what it protects."""
    found = []
    for path in sorted((store.root / _LEASES).glob("[!.]*.json")):
        try:
            found.append(Lease.model_validate_json(path.read_bytes()))
        except FileNotFoundError:
            continue  # forgotten meanwhile
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); ask its owner") from error
        except ValidationError as error:
            raise UserError(f"{path}: damaged lease; delete it if you know whose it was") from error
    return sorted(found, key=lambda lease: (lease.checkout, lease.host))


def is_of(lease: Lease, checkout: Path) -> bool:
    """Whether a lease is that of this checkout on this host."""
    return lease.host == socket.gethostname() and lease.checkout == str(checkout.resolve())


def leases_state(store: Store) -> frozenset[tuple[str, int]]:
    """Something that changes whenever a lease is written or dropped."""
    found = set()
    for path in (store.root / _LEASES).glob("[!.]*.json"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return frozenset(found)


def forget_lease(store: Store, checkout: str) -> Lease:
    """Drop the one lease of a checkout, given as folder or ``HOST:FOLDER``; UserError if there is none or several."""
    leases = read_leases(store)
    meant = {checkout, str(Path(checkout).resolve())}
    found = [lease for lease in leases if {lease.checkout, f"{lease.host}:{lease.checkout}"} & meant]
    if not found:
        known = "; ".join(f"{lease.host}:{lease.checkout}" for lease in leases) or "none"
        raise UserError(f"--forget {checkout}: has no lease on {store.root}; there are: {known}")
    if len(found) > 1:
        named = "; ".join(f"{lease.host}:{lease.checkout}" for lease in found)
        raise UserError(f"--forget {checkout}: several hosts have such a checkout; name one of: {named}")
    path = store.root / _LEASES / found[0].file
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be deleted ({error.strerror}); ask {found[0].user}") from error
    return found[0]
