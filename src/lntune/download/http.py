"""Downloads one file over HTTP: goes on where it was cut, hashes what arrives, and stops at what cannot be right.

    got = Download("coco: val2014.zip", lambda: Remote(url), Partial(path), expected, RetryPolicy(), watch).run()

What has arrived is kept whenever it can be of use: an attempt that is cut, turned away or killed costs nothing. It is
thrown away only when the server has another version of the file, or when the whole has another hash than it must have.
"""

import errno
import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lntune.download.local import Partial, Version
from lntune.download.request import (
    BY_HAND,
    PASSING,
    Remote,
    RetryPolicy,
    StoppedError,
    TryAgainError,
    blocks,
    new_session,
    pause_before,
    retry_after,
    send,
)
from lntune.errors import UserError
from lntune.units import bytes_text

if TYPE_CHECKING:
    from requests import Response, Session

_WORTH = 1 << 20  # bytes that an attempt must gain for the count of failed ones to start again
_OTHER_FILE = "it is not the file that it was: find out why before you change what is recorded"
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_WHOLE = re.compile(r"bytes \*/(\d+)")


@dataclass(frozen=True)
class Expected:
    """What a file must be, and the file that says so."""

    bytes: int | None = None
    sha256: str | None = None
    stated_by: str = ""


class Got(NamedTuple):
    """What was downloaded."""

    bytes: int
    sha256: str


@dataclass
class Watch:
    """What a download reports, and what may stop it.

    Attributes:
        advance: called with how many bytes were written, or, as a negative number, thrown away.
        learn: called with the file's bytes and how many are still to come, once that is known; raises UserError if
            they do not fit.
        stop: set to have the download end.
    """

    advance: Callable[[int], None] = lambda count: None
    learn: Callable[[int, int], None] = lambda total, missing: None
    stop: threading.Event = field(default_factory=threading.Event)


class Download:
    """The download of one file.

    Args:
        shown: how messages name the file.
        remote: where it is to be had now; may raise UserError or TryAgainError.
        partial: where it goes, and what has arrived before.
        expected: what it must be.
        policy: time-outs and attempts.
        watch: what is called on the way.
    """

    def __init__(
        self,
        shown: str,
        remote: Callable[[], Remote],
        partial: Partial,
        expected: Expected,
        policy: RetryPolicy,
        watch: Watch,
    ) -> None:
        self._shown, self._remote, self._partial, self._expected = shown, remote, partial, expected
        self._policy, self._watch = policy, watch
        self._patched = partial.size > 0  # from several pieces, so that a wrong hash may be the joint's fault
        self._repeated = False

    def run(self) -> Got:
        """Download the file into the partial's path.

        Raises:
            UserError: it cannot be had, or is not what it must be; one line says what to do.
            StoppedError: ``watch.stop`` was set.
        """
        failed = 0
        while True:
            before = self._partial.size
            try:
                with new_session() as session:
                    self._attempt(session)
                got = self._verified()
            except TryAgainError as trouble:
                failed = 1 if self._partial.size - before >= _WORTH else failed + 1
                self._patched = self._partial.size > 0
                if failed >= self._policy.attempts:
                    kept = f"; {bytes_text(self._partial.size)} of it are kept" if self._partial.size else ""
                    why = f"{trouble}, {failed} times in a row; try again later{kept}"
                    raise UserError(f"{self._shown}: {why}") from None
                if self._watch.stop.wait(pause_before(failed - 1, self._policy, trouble.after)):
                    raise StoppedError from None
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise UserError(f"{self._shown}: {error.strerror} at {self._partial.path}; make room") from None
            else:
                return got
            finally:
                self._partial.close()

    # --- one attempt ------------------------------------------------------------------------------------------------

    def _attempt(self, session: "Session") -> None:
        """Ask for what is missing and write it; TryAgainError if that may work another time."""
        remote, part = self._remote(), self._partial
        version = part.version
        total = self._expected.bytes if self._expected.bytes is not None else remote.bytes
        if version is not None and total is None:
            total = version.total
        if version is not None and (
            (remote.identity is not None and remote.identity != version.identity)
            or (total is not None and part.size > total)
        ):
            self._throw_away()
        if part.size and part.size == total:
            return
        headers = {}
        if part.size and part.version and (part.version.is_known or self._expected.sha256):
            headers["Range"] = f"bytes={part.size}-"
            if part.version.if_range:
                headers["If-Range"] = part.version.if_range
        with send(session, remote, headers, self._policy.timeout, self._shown) as response:
            self._receive(response, remote)

    def _receive(self, response: "Response", remote: Remote) -> None:
        """Write the body of an answer, if it is one of the kinds that have the file's bytes."""
        status, part = response.status_code, self._partial
        if status == 416:
            self._all_there(response)
            return
        if status not in (200, 206):
            self._refused(response, remote)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise UserError(f"{self._shown}: the server sends it compressed, though it was asked not to; {BY_HAND}")
        start, total = self._extent(response)
        said, wanted = remote.bytes if total is None else total, self._expected.bytes
        if said is not None and wanted is not None and said != wanted:
            raise UserError(
                f"{self._shown}: the server has {said} bytes, {self._expected.stated_by} says {wanted}; {_OTHER_FILE}"
            )
        here = Version(remote.identity, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
        if part.version is None or self._changed(here):
            self._throw_away()
            part.begin(here)
            self._patched = False
        if start != part.size and start != 0:
            raise TryAgainError("the server answered with other bytes than were asked for")
        if total is not None:
            self._watch.learn(total, total - part.size)
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
        before = self._partial.version
        assert before is not None
        if here.total is not None and here.total < self._partial.size:
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
        if found is None or int(found[1]) != self._partial.size:
            self._throw_away()
            raise TryAgainError("the server has fewer bytes than have arrived")

    def _refused(self, response: "Response", remote: Remote) -> NoReturn:
        status = response.status_code
        if status in PASSING or (status in (401, 403) and remote.signed):
            raise TryAgainError(f"HTTP {status} {response.reason}", retry_after(response.headers.get("Retry-After")))
        what = {
            401: "asks for a password",
            403: "refuses it",
            404: "has no such file",
            410: "has no such file any more",
        }.get(status, "cannot give it")
        raise UserError(f"{self._shown}: the server {what} (HTTP {status}); {BY_HAND}")

    # --- the bytes --------------------------------------------------------------------------------------------------

    def _stream(self, response: "Response", start: int, total: int | None) -> None:
        """Write the body from the place on that has arrived; what comes before it is compared.

        A server that knows no ranges sends all again: as long as that is the same, nothing is thrown away.
        """
        part, place = self._partial, start
        limit = min((size for size in (self._expected.bytes, total) if size is not None), default=self._policy.largest)
        again = hashlib.sha256() if start < part.size else None
        for block in blocks(response, self._policy, self._watch.stop):
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
                raise UserError(f"{self._shown}: the server sends more than {limit} bytes; {_OTHER_FILE}")
            part.write(block)
            place += len(block)
            self._watch.advance(len(block))
        if again is not None and total is None:
            self._throw_away()
            raise TryAgainError("the file has become shorter since a part of it arrived")
        if total is not None and place < total:
            raise TryAgainError(f"the connection was cut after {place} of {total} bytes")

    def _throw_away(self) -> None:
        if self._partial.size:
            self._watch.advance(-self._partial.size)
        self._partial.remove()

    # --- the whole --------------------------------------------------------------------------------------------------

    def _verified(self) -> Got:
        """What has arrived, if it is what it must be. A whole of several pieces that is not is downloaded once more."""
        part, expected = self._partial, self._expected
        got = Got(part.size, part.sha256)
        identity = part.version.identity if part.version else None
        fault = None
        if expected.bytes is not None and got.bytes != expected.bytes:
            fault = f"it has {got.bytes} bytes, {expected.stated_by} says {expected.bytes}"
        elif expected.sha256 is not None and got.sha256 != expected.sha256:
            fault = f"its sha256 is {got.sha256}, {expected.stated_by} says {expected.sha256}"
        elif identity is not None and not part.is_called(identity):
            fault = f"its hash is not {identity}, as which the hub knows it"
        if fault is None:
            return got
        self._throw_away()
        if self._patched and not self._repeated:
            self._repeated = True
            raise TryAgainError(f"put together from several pieces, {fault}")
        raise UserError(f"{self._shown}: {fault}; {_OTHER_FILE}")
