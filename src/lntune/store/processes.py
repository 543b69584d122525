"""The host and the processes that the names of temporary folders speak of."""

import os
import re
import socket


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
