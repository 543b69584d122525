"""The one exception whose text is meant for the person at the terminal."""


class UserError(Exception):
    """A mistake in what the user gave: a config, a file, a name.

    Its text is one line that names the file, key, record or job at fault and what to do about it.
    The command line prints it as ``error: ...`` and exits with 1, without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
