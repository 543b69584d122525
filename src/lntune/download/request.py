"""One request for a file over HTTP, its answer as it comes, and the retry policy: time-outs, attempts and pauses."""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from lntune.errors import UserError

if TYPE_CHECKING:
    from requests import Response, Session

BY_HAND = "get it in another way and name its folder under `copies` in config.yaml"

PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses of a trouble that may pass
_BLOCK = 1 << 20
_MOST_REDIRECTS = 10
_LONGEST_PAUSE = 120.0
_LONGEST_ASKED = 900.0


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of one download.

    Attributes:
        attempts: how often in a row it may fail without a megabyte gained.
        pause: seconds before the second attempt, about twice as many before each further one.
        timeout: seconds without a byte, after which a connection counts as cut.
        slowest: bytes a second; a connection that is slower for as long as ``timeout`` counts as cut.
        largest: bytes of a file whose length neither the catalogue nor the server tells.
    """

    attempts: int = 8
    pause: float = 1.0
    timeout: float = 60.0
    slowest: int = 1024
    largest: int = 100 * 10**9


class TryAgainError(Exception):
    """An attempt failed in a way that may pass; ``after`` are the seconds that the server asks to wait."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


def pause_before(attempt: int, policy: RetryPolicy, asked: float | None) -> float:
    """Seconds before the next attempt, where ``attempt`` failed: exponential, with jitter, and as long as asked."""
    longest = min(policy.pause * 2.0**attempt, _LONGEST_PAUSE)
    own = longest * random.uniform(0.5, 1.0)  # so that jobs that were turned away together do not come back together
    return own if asked is None else max(own, min(asked, _LONGEST_ASKED))


def retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None without one, or if it is neither."""
    for parse in (float, lambda date: parsedate_to_datetime(date).timestamp() - time.time()):
        with suppress(ValueError):
            return max(0.0, parse(text or ""))
    return None


class StoppedError(Exception):
    """Another download of the same job has failed, so that this one was given up; what has arrived is kept."""


@dataclass(frozen=True)
class Remote:
    """What a request needs. It is asked for again before every attempt, since signed addresses expire.

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


def blocks(response: "Response", policy: RetryPolicy, stop: threading.Event) -> Iterator[bytes]:
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
            raise TryAgainError(f"nothing came for {policy.timeout:g} seconds") from None
        except (HTTPError, OSError) as error:
            raise TryAgainError(f"the connection was cut ({type(error).__name__})") from None
        if not block:
            return
        yield block
        got += len(block)
        seconds = time.monotonic() - since
        if seconds >= policy.timeout:
            if got < seconds * policy.slowest:
                raise TryAgainError(f"only {got} bytes came in {seconds:.0f} seconds")
            since, got = time.monotonic(), 0
