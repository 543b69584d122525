"""Downloads one file over HTTP: goes on where it was cut, hashes what arrives, and stops at what cannot be right.

    partial = Partial(path)
    Download("coco: val2014.zip", lambda: Remote(url), partial, Expected(), RetryPolicy()).run()

What has arrived is thrown away only when the server has another version, or the whole another hash than it must have.
"""

import errno
import hashlib
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NoReturn

from lntune.download.local import Partial, Version
from lntune.errors import UserError
from lntune.units import bytes_text, seconds_text

if TYPE_CHECKING:
    from requests import Response, Session

BY_HAND = "get it in another way and name its folder under `copies` in config.yaml"
_OTHER_FILE = "it is not the file that it was: find out why before you change what is recorded"
_REFUSALS = {401: "asks for a password", 403: "refuses it", 404: "has no such file", 410: "has no such file any more"}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_WHOLE = re.compile(r"bytes \*/(\d+)")
_BLOCK = 1 << 20
_MOST_REDIRECTS = 10

PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses of a trouble that may pass
_WORTH = 1 << 20  # bytes that an attempt must gain for the count of failed ones to start again
_LONGEST_PAUSE = 120.0
_LONGEST_ASKED = 900.0


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of one download."""

    attempts: int = 8  # how often in a row it may fail without a megabyte gained
    pause: float = 1.0  # seconds before the second attempt, about twice as many before each further one
    timeout: float = 60.0  # seconds without a byte, after which a connection counts as cut
    slowest: int = 1024  # bytes a second; a connection that is slower for as long as ``timeout`` counts as cut
    largest: int = 100 * 10**9  # bytes of a file whose length neither the catalogue nor the server tells

    def pause_before(self, attempt: int, asked: float | None) -> float:
        """Seconds to wait after ``attempt`` failed: exponential, with jitter, and as long as the server asks."""
        longest = min(self.pause * 2.0**attempt, _LONGEST_PAUSE)
        own = longest * random.uniform(0.5, 1.0)  # so that jobs turned away together do not come back together
        return own if asked is None else max(own, min(asked, _LONGEST_ASKED))


def retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None without one, or if it is neither."""
    for parse in (float, lambda date: parsedate_to_datetime(date).timestamp() - time.time()):
        with suppress(ValueError):
            return max(0.0, parse(text or ""))
    return None


class TryAgainError(Exception):
    """An attempt failed in a way that may pass; ``after`` are the seconds that the server asks to wait."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


class StoppedError(Exception):
    """Another download of the same job has failed, so that this one was given up; what has arrived is kept."""


@dataclass(frozen=True)
class Remote:
    """Where a file is now, asked for again before every attempt, since ``signed`` addresses expire.

    ``headers`` are to be sent, as for an authorisation; ``identity`` names the bytes for good, if that is known before.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bytes: int | None = None
    identity: str | None = None
    signed: bool = False


@dataclass(frozen=True)
class Expected:
    """What a file must be, and the file that says so."""

    bytes: int | None = None
    sha256: str | None = None
    stated_by: str = ""


@dataclass
class Download:
    """The download of one file."""

    shown: str  # how messages name the file
    remote: Callable[[], Remote]  # where it is to be had now; may raise UserError or TryAgainError
    partial: Partial  # where it goes, and what has arrived before
    expected: Expected
    policy: RetryPolicy
    # Called with how many bytes were written, or, as a negative number, thrown away.
    advance: Callable[[int], None] = lambda count: None
    # Called with how many bytes are still to come, once known; UserError if they do not fit.
    check_room: Callable[[int], None] = lambda missing: None
    stop: threading.Event = field(default_factory=threading.Event)  # set to have the download end

    def __post_init__(self) -> None:
        self._patched = self.partial.size > 0  # from several pieces, so that a wrong hash may be the joint's fault
        self._repeated = False

    def run(self) -> None:
        """Download the file; UserError if it cannot be had or is not what it must be, StoppedError on ``stop``."""
        failed = 0
        while True:
            before = self.partial.size
            try:
                self._attempt()
                self._verify()
                return
            except TryAgainError as trouble:
                failed = 1 if self.partial.size - before >= _WORTH else failed + 1
                self._patched = self.partial.size > 0
                if failed >= self.policy.attempts:
                    kept = f"; {bytes_text(self.partial.size)} of it are kept" if self.partial.size else ""
                    why = f"{trouble}, {failed} times in a row; try again later{kept}"
                    raise UserError(f"{self.shown}: {why}") from None
                pause = self.policy.pause_before(failed - 1, trouble.after)
                print(f"warning: {self.shown}: {trouble}; again in {seconds_text(pause)}", file=sys.stderr, flush=True)
                if self.stop.wait(pause):
                    raise StoppedError from None
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise UserError(f"{self.shown}: {error.strerror} at {self.partial.path}; make room") from None
            finally:
                self.partial.close()

    def _attempt(self) -> None:
        """Ask for what is missing and write it; TryAgainError if that may work another time."""
        import requests

        remote, part = self.remote(), self.partial
        total = self.expected.bytes if self.expected.bytes is not None else remote.bytes
        if part.version is not None:
            total = part.version.total if total is None else total
            other = remote.identity is not None and remote.identity != part.version.identity
            if other or (total is not None and part.size > total):
                self._throw_away()
        if part.size and part.size == total:
            return
        headers = {}
        if part.size and part.version and (part.version.is_known or self.expected.sha256):
            headers["Range"] = f"bytes={part.size}-"
            if part.version.if_range:
                headers["If-Range"] = part.version.if_range
        with requests.Session() as session, self._send(session, remote, headers) as response:
            self._receive(response, remote)

    def _send(self, session: "Session", remote: Remote, headers: Mapping[str, str]) -> "Response":
        """Ask for the file; the answer's body is not read yet."""
        import requests

        session.max_redirects = _MOST_REDIRECTS
        shown, timeout = self.shown, self.policy.timeout
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

    def _receive(self, response: "Response", remote: Remote) -> None:
        """Write the body of an answer, if it is one of the kinds that have the file's bytes."""
        status, part = response.status_code, self.partial
        if status == 416:
            self._all_there(response)
            return
        if status not in (200, 206):
            self._refused(response, remote)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UserError(f"{self.shown}: the server sends it compressed, though it was asked not to; {BY_HAND}")
        start, total = self._extent(response)
        said, wanted = remote.bytes if total is None else total, self.expected.bytes
        if said is not None and wanted is not None and said != wanted:
            what = f"the server has {said} bytes, {self.expected.stated_by} says {wanted}"
            raise UserError(f"{self.shown}: {what}; {_OTHER_FILE}")
        here = Version(remote.identity, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
        if part.version is None or self._changed(here):
            self._throw_away()
            part.begin(here)
            self._patched = False
        if start != part.size and start != 0:
            raise TryAgainError("the server answered with other bytes than were asked for")
        if total is not None:
            self.check_room(total - part.size)
        self._stream(response, start, total)

    def _extent(self, response: "Response") -> tuple[int, int | None]:
        """From which byte on the answer holds the file, and the file's length if the answer tells."""
        if response.status_code == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None:
                raise TryAgainError("the server sent a part of the file and did not say which")
            return int(found[1]), None if found[2] == "*" else int(found[2])
        length = response.headers.get("Content-Length", "")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
        return 0, int(length) if length.isdigit() and not chunked else None

    def _changed(self, here: Version) -> bool:
        """Whether the server's version is not the one of which something has arrived."""
        before = self.partial.version
        assert before is not None
        if here.total is not None and here.total < self.partial.size:
            return True
        if before.identity is not None or here.identity is not None:
            return before.identity != here.identity
        names = (before.etag, here.etag)
        if None in names:
            names = (before.modified, here.modified)
        return any(None not in pair and pair[0] != pair[1] for pair in (names, (before.total, here.total)))

    def _all_there(self, response: "Response") -> None:
        """An answer that there is nothing after what has arrived: that was all, or is more than the file has."""
        found = _WHOLE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != self.partial.size:
            self._throw_away()
            raise TryAgainError("the server has fewer bytes than have arrived")

    def _refused(self, response: "Response", remote: Remote) -> NoReturn:
        status = response.status_code
        if status in PASSING or (status in (401, 403) and remote.signed):
            raise TryAgainError(f"HTTP {status} {response.reason}", retry_after(response.headers.get("Retry-After")))
        what = _REFUSALS.get(status, "cannot give it")
        raise UserError(f"{self.shown}: the server {what} (HTTP {status}); {BY_HAND}")

    def _stream(self, response: "Response", start: int, total: int | None) -> None:
        """Write the body from the place on that has arrived; what comes before it is compared.

        A server that knows no ranges sends all again: as long as that is the same, nothing is thrown away.
        """
        part, place = self.partial, start
        limit = min((size for size in (self.expected.bytes, total) if size is not None), default=self.policy.largest)
        again = hashlib.sha256() if start < part.size else None
        for block in self._blocks(response):
            if again is not None:
                before, block = block[: part.size - place], block[part.size - place :]
                again.update(before)
                place += len(before)
                if place < part.size:
                    continue
                if again.hexdigest() != part.sha256:
                    self._throw_away()
                    raise TryAgainError("the file has changed since a part of it arrived")
                again = None
            if place + len(block) > limit:
                self._throw_away()
                raise UserError(f"{self.shown}: the server sends more than {limit} bytes; {_OTHER_FILE}")
            part.write(block)
            place += len(block)
            self.advance(len(block))
        if again is not None and total is None:
            self._throw_away()
            raise TryAgainError("the file has become shorter since a part of it arrived")
        if total is not None and place < total:
            raise TryAgainError(f"the connection was cut after {place} of {total} bytes")

    def _blocks(self, response: "Response") -> Iterator[bytes]:
        """The body of an answer as it comes."""
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        policy, since, got = self.policy, time.monotonic(), 0
        while True:
            if self.stop.is_set():
                raise StoppedError
            try:
                # What is there, and not a whole block: the time-out is of a single read, and a drip never meets it.
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

    def _throw_away(self) -> None:
        if self.partial.size:
            self.advance(-self.partial.size)
        self.partial.remove()

    def _verify(self) -> None:
        """Check that the whole is what it must be; one of several pieces that is not is downloaded once more."""
        part, expected = self.partial, self.expected
        identity = part.version.identity if part.version else None
        if expected.bytes is not None and part.size != expected.bytes:
            fault = f"it has {part.size} bytes, {expected.stated_by} says {expected.bytes}"
        elif expected.sha256 is not None and part.sha256 != expected.sha256:
            fault = f"its sha256 is {part.sha256}, {expected.stated_by} says {expected.sha256}"
        elif identity is not None and not part.is_called(identity):
            fault = f"its hash is not {identity}, as which the hub knows it"
        else:
            return
        self._throw_away()
        if self._patched and not self._repeated:
            self._repeated = True
            raise TryAgainError(f"put together from several pieces, {fault}")
        raise UserError(f"{self.shown}: {fault}; {_OTHER_FILE}")
