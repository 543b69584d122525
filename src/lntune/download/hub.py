"""Finds files of the Hugging Face hub: where their bytes are to be had, at which commit, by which hash; and sends some.

huggingface_hub knows the hub's addresses, its errors and how it wants to be asked. The bytes come by
:mod:`lntune.download.http`, because ``hf_hub_download`` (2.4) begins a file again whenever its process was killed.

The token comes from the environment's HF_TOKEN alone. It is sent to the hub and to nobody else: large files lie on
servers of their own, to which the hub gives signed addresses.
"""

import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from lntune.config.catalog import CATALOG, LOCK, HubRepository, Place
from lntune.download.http import BY_HAND, PASSING, Remote, TryAgainError, retry_after
from lntune.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata
    from huggingface_hub.errors import HfHubHTTPError

TOKEN = "HF_TOKEN"


def token_of_environment() -> str | None:
    """HF_TOKEN; UserError if it cannot be one, which does not repeat it."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        return None
    if not re.fullmatch(r"[!-~]+", token):
        what = "it has spaces or other characters that a token cannot have"
        raise UserError(f"{TOKEN}: is no token: {what}; set it again")
    return token


def endpoint() -> str:
    """Where the hub is: HF_ENDPOINT, or else the hub itself."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


class HubFiles:
    """The hub files of one entry of the catalogue, each repository of them at one commit.

    ``page`` is where access to ``gated`` ones is asked for (None: the repository's own), ``commits`` what was recorded:
    a branch may have moved since. The hub may take ``timeout`` seconds to answer.
    """

    def __init__(self, gated: bool, page: str | None, commits: Mapping[HubRepository, str], timeout: float) -> None:
        self._gated, self._page, self._timeout = gated, page, timeout
        self._commits = dict(commits)
        self._lock = threading.Lock()
        self._token = token_of_environment()

    def remote(self, shown: str, hub: HubRepository, member: str) -> Remote:
        """Where a file's bytes are now; UserError if not there or not for us, TryAgainError if that may pass."""
        with self._lock:  # the first file's answer decides on the commit of all
            revision = self._revision(hub)
            known = hub in self._commits
            if not known:
                metadata = self._metadata(shown, hub, member, revision)
                self._commits[hub] = metadata.commit_hash or ""
        if known:
            metadata = self._metadata(shown, hub, member, revision)
        ours = _origin(metadata.location) == _origin(endpoint())
        headers = {"User-Agent": "lntune"}
        if ours and self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return Remote(metadata.location, headers, metadata.size, metadata.etag, signed=not ours)

    def origin(self, place: Place) -> str:
        """The address of a file that was found, with the commit."""
        assert place.hub is not None
        return place.hub_address(self._revision(place.hub))

    def _revision(self, hub: HubRepository) -> str:
        return self._commits.get(hub) or hub.revision

    def _metadata(self, shown: str, hub: HubRepository, member: str, revision: str) -> "HfFileMetadata":
        from httpx2 import RequestError
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        where = endpoint()
        url = hf_hub_url(hub.repo, member, repo_type=hub.type, revision=revision, endpoint=where)
        try:
            metadata = get_hf_file_metadata(url, token=self._token or False, timeout=self._timeout, endpoint=where)
        except OfflineModeIsEnabled:
            raise UserError(f"{shown}: HF_HUB_OFFLINE is set, so that the hub is not asked; unset it") from None
        except HfHubHTTPError as error:
            self._refused(shown, hub, member, error)
        except RequestError as error:
            raise TryAgainError(f"no answer from the hub at {where} ({type(error).__name__})") from None
        if metadata.commit_hash is None or metadata.etag is None:
            raise UserError(f"{shown}: {where} does not answer as a hub does; correct HF_ENDPOINT")
        return metadata

    def _refused(self, shown: str, hub: HubRepository, member: str, error: "HfHubHTTPError") -> NoReturn:
        from huggingface_hub import errors

        status = error.response.status_code
        if status in PASSING:
            why = f"HTTP {status} from the hub"
            raise TryAgainError(why, retry_after(error.response.headers.get("Retry-After"))) from None
        unknown = isinstance(error, errors.RepositoryNotFoundError)
        if isinstance(error, errors.GatedRepoError) or (self._gated and unknown):
            raise UserError(f"{shown}: {self._no_access(hub)}") from None
        if isinstance(error, errors.RevisionNotFoundError):
            where = f"{CATALOG}, or in {LOCK} if it is there"
            what = f"{hub.repo} has no revision {self._revision(hub)}; correct it in {where}"
        elif isinstance(error, errors.RemoteEntryNotFoundError):
            what = f"{hub.repo} has no file {member} at {self._revision(hub)}; {BY_HAND}"
        elif status in (401, 403) and self._token and not unknown:
            what = f"the hub does not accept the token of {TOKEN} (HTTP {status}); set a valid one that may read"
        else:
            what = f"the hub shows no repository {hub.repo} (HTTP {status}): it is gone or private; {BY_HAND}"
        raise UserError(f"{shown}: {what}") from None

    def _no_access(self, hub: HubRepository) -> str:
        kind = "datasets/" if hub.type == "dataset" else ""
        page = self._page or f"https://huggingface.co/{kind}{hub.repo}"
        if self._token is None:
            return f"{hub.repo} is gated and {TOKEN} is not set; ask for access at {page}, and set it to your token"
        return f"{hub.repo} is gated and the account of {TOKEN} has no access; ask for it at {page}"


def push(folder: Path, repo: str) -> str:
    """Upload a folder to a model repository, which is made, private, if there is none; return its address."""
    from httpx2 import RequestError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    token = token_of_environment()
    if token is None:
        raise UserError(f"{TOKEN}: is not set; make a token in your account on the hub that may write, and set it")
    hub = HfApi(endpoint=endpoint(), token=token)
    try:
        hub.create_repo(repo, private=True, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message="Add the model that lntune published")
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE is set, so that nothing is sent to the hub; unset it") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise UserError(f"{repo}: the hub refuses (HTTP {status}); {TOKEN} must be allowed to write there") from None
    except HFValidationError:
        raise UserError(f"--push {repo}: is no repository's name; write USER/NAME") from None
    except RequestError as error:
        raise UserError(f"no answer from the hub at {endpoint()} ({type(error).__name__}); try again") from None
    return f"{endpoint()}/{repo}"


def commit_of(origin: str) -> str | None:
    """The commit in the address of a hub file, if it has one."""
    found = re.search(r"@([0-9a-f]{40})/", origin) if origin.startswith("hf://") else None
    return found[1] if found else None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
