"""Claims: which results each checkout needs of a store that several share, so that nobody collects another's.

A claim is a small file ``<store>/.claims/<digest of host and folder>.json``. Every run of a workflow writes its
checkout's anew, naming all results of its plan. It stays until someone drops it (:func:`forget_claim`).
"""

import getpass
import json
import os
import secrets
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from lntune.errors import UserError
from lntune.store.canonical import digest
from lntune.store.layout import Store

_CLAIMS = ".claims"


@dataclass(frozen=True)
class Owner:
    """Who claims: a user on a host."""

    user: str
    host: str


class Claim(BaseModel):
    """What a checkout said that it needs: the results' folders below the store, as ``stage/label-id``."""

    # A later lntune may have more to say; a claim that cannot be read would protect nothing.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    checkout: str
    user: str
    host: str
    written: AwareDatetime
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """The claim's holder and day in words."""
        return f"{self.checkout} of {self.user} on {self.host} on {self.written:%Y-%m-%d}"

    @property
    def file(self) -> str:
        """The name of the claim's file, one for each folder of a host."""
        return f"{digest([self.host, self.checkout])[:24]}.json"

    @property
    def abandoned(self) -> bool:
        """Whether the checkout was on this host and its folder is gone."""
        return self.host == socket.gethostname() and not os.path.isdir(self.checkout)


def me() -> Owner:
    """The user and the host of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = f"user {os.getuid()}"
    return Owner(user, socket.gethostname())


def write_claim(store: Store, checkout: Path, names: Collection[str], owner: Owner | None = None) -> Claim:
    """Claim results for a checkout, in place of what it claimed before.

    Args:
        store: where the results lie or will lie.
        checkout: the checkout's folder; it is known by its path without links.
        names: all that it needs, made or not: ``stage/label-id``.
        owner: who claims, if not this process's user on this host.

    Raises:
        OSError: the store cannot be written; the claim is then as it was.
    """
    owner = owner or me()
    claim = Claim(
        checkout=str(checkout.resolve()),
        user=owner.user,
        host=owner.host,
        written=datetime.now(UTC),
        names=tuple(sorted(set(names))),
    )
    path = store.root / _CLAIMS / claim.file
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(json.dumps(claim.model_dump(mode="json"), indent=1) + "\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return claim


def read_claims(store: Store) -> list[Claim]:
    """All claims on a store, by checkout.

    Raises:
        UserError: one cannot be read, so that nobody knows what it protects.
    """
    found = []
    for path in sorted((store.root / _CLAIMS).glob("[!.]*.json")):
        try:
            found.append(Claim.model_validate_json(path.read_bytes()))
        except FileNotFoundError:
            continue  # forgotten meanwhile
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); ask its owner") from error
        except ValidationError as error:
            raise UserError(f"{path}: damaged claim; delete it if you know whose it was") from error
    return sorted(found, key=lambda claim: (claim.checkout, claim.host))


def is_of(claim: Claim, checkout: Path) -> bool:
    """Whether a claim is that of this checkout on this host."""
    return claim.host == socket.gethostname() and claim.checkout == str(checkout.resolve())


def claims_state(store: Store) -> frozenset[tuple[str, int]]:
    """Something that changes whenever a claim is written or dropped."""
    found = set()
    for path in (store.root / _CLAIMS).glob("[!.]*.json"):
        with suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return frozenset(found)


def forget_claim(store: Store, checkout: str) -> Claim:
    """Drop the claim of a checkout, named by its folder, or by ``HOST:FOLDER`` where several hosts have one there.

    Raises:
        UserError: there is no such claim, or there are several.
    """
    claims = read_claims(store)
    meant = {checkout, str(Path(checkout).resolve())}
    found = [claim for claim in claims if {claim.checkout, f"{claim.host}:{claim.checkout}"} & meant]
    if not found:
        known = "; ".join(f"{claim.host}:{claim.checkout}" for claim in claims) or "none"
        raise UserError(f"--forget {checkout}: has no claim on {store.root}; there are: {known}")
    if len(found) > 1:
        named = "; ".join(f"{claim.host}:{claim.checkout}" for claim in found)
        raise UserError(f"--forget {checkout}: several hosts have such a checkout; name one of: {named}")
    path = store.root / _CLAIMS / found[0].file
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be deleted ({error.strerror}); ask {found[0].user}") from error
    return found[0]
