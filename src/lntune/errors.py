"""The one exception whose text the person at the terminal reads, how it tells a helper's end, and what is no text."""

import re
import signal

NO_TEXT = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold: NUL, most control characters, and halves of surrogate pairs, which UTF-8 cannot either."""


class UserError(Exception):
    """A mistake in what the user gave: a config, a file, a name.

    Its text is one line that names the file, key, record or job at fault and what to do about it.
    The command line prints it as ``error: ...`` and exits with 1, without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(NO_TEXT.sub(lambda found: ascii(found[0])[1:-1], " ".join(message.split())))


def how_it_ended(code: int, words: str = "") -> str:
    """The end of a process, whose exit code is negative if a signal ended it, with its last words if it had any."""
    how = f"ended with exit code {code}"
    if code < 0:
        name = next((known.name for known in signal.Signals if known == -code), f"signal {-code}")
        how = f"ended by {name}" + "; the machine may be out of memory" * (name == "SIGKILL")
    return f"{how}: {' '.join(words.split())}" if words.strip() else how
