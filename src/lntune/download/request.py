"""One request for a file over HTTP, and its answer as it comes."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lntune.download.manner import Manner, TryAgainError
from lntune.errors import UserError

if TYPE_CHECKING:
    from requests import Response, Session

BY_HAND = "get it in another way and name its folder under `copies` in config.yaml"

_BLOCK = 1 << 20
_MOST_REDIRECTS = 10


class StoppedError(Exception):
    """Another download of the same job has failed, so that this one was given up; what has arrived is kept."""


@dataclass(frozen=True)
class Remote:
    """What a request needs. It is asked for anew before every attempt, since signed addresses expire.

    Attributes:
        url: where to get the bytes.
        headers: what else to send, such as an authorisation.
        bytes: how many there are, if that is known before.
        identity: what names the bytes for good, if that is known before.
        signed: whether a refusal may just mean that the address has expired.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bytes: int | None = None
    identity: str | None = None
    signed: bool = False


def new_session() -> "Session":
    """Connections for one attempt."""
    import requests

    session = requests.Session()
    session.max_redirects = _MOST_REDIRECTS
    return session


def send(session: "Session", remote: Remote, headers: Mapping[str, str], timeout: float, shown: str) -> "Response":
    """Ask for a file; the answer's body is not read yet.

    Raises:
        UserError: there is no use in asking again.
        TryAgainError: there may be.
    """
    import requests

    sent = {**remote.headers, "Accept-Encoding": "identity", **headers}
    try:
        # A function as `auth`: else requests would put what ~/.netrc says in place of the authorisation given.
        return session.get(remote.url, headers=sent, stream=True, timeout=timeout, auth=lambda request: request)
    except requests.TooManyRedirects:
        raise UserError(f"{shown}: the server redirects more than {_MOST_REDIRECTS} times; {BY_HAND}") from None
    except requests.exceptions.SSLError:
        raise UserError(f"{shown}: the server's certificate is not to be trusted; {BY_HAND}") from None
    except requests.Timeout:
        raise TryAgainError(f"no answer within {timeout:g} seconds") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        raise TryAgainError("no connection to the server") from None
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"{shown}: its address cannot be asked ({type(error).__name__}); correct it") from None


def blocks(response: "Response", manner: Manner, stop: threading.Event) -> Iterator[bytes]:
    """The body of an answer as it comes.

    Raises:
        TryAgainError: it comes too slowly, or no more, or the connection was cut.
        StoppedError: ``stop`` was set.
    """
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    since, got = time.monotonic(), 0
    while True:
        if stop.is_set():
            raise StoppedError
        try:
            # What is there, and not a whole block: the time-out is of a single read, and a drip would never meet it.
            block: bytes = response.raw.read1(_BLOCK, decode_content=False)
        except ReadTimeoutError:
            raise TryAgainError(f"nothing came for {manner.timeout:g} seconds") from None
        except (HTTPError, OSError) as error:
            raise TryAgainError(f"the connection was cut ({type(error).__name__})") from None
        if not block:
            return
        yield block
        got += len(block)
        seconds = time.monotonic() - since
        if seconds >= manner.timeout:
            if got < seconds * manner.slowest:
                raise TryAgainError(f"only {got} bytes came in {seconds:.0f} seconds")
            since, got = time.monotonic(), 0
