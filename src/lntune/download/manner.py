"""How patiently files are downloaded: time-outs, attempts, and the pauses between them."""

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_LONGEST_PAUSE = 120.0
_LONGEST_ASKED = 900.0


@dataclass(frozen=True)
class Manner:
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


def pause_before(attempt: int, manner: Manner, asked: float | None) -> float:
    """Seconds before the next attempt, where ``attempt`` failed: exponential, with jitter, and as long as asked."""
    longest = min(manner.pause * 2.0**attempt, _LONGEST_PAUSE)
    own = longest * random.uniform(0.5, 1.0)  # so that jobs that were turned away together do not come back together
    return own if asked is None else max(own, min(asked, _LONGEST_ASKED))


def retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None without one, or if it is neither."""
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
