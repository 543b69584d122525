"""Fork servers of the test's own process, as Snakemake starts them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from lntune.jobs import fork_server, submit


@contextmanager
def fork_servers() -> Iterator[None]:
    """Started for the jobs of this process, and gone after it: the next test may start its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(submit.VARIABLE, "")  # start() sets it
        before = threading.enumerate()
        fork_server.start()
        try:
            yield
        finally:
            killed = {kind: running(kind) for kind in ("plain", "torch")}
            for process in killed["plain"] + killed["torch"]:
                process.kill()
            for thread in set(threading.enumerate()) - set(before):
                if killed.get(thread.name.removesuffix(" server")):
                    thread.join()  # its warning belongs to this test


def command(process: psutil.Process) -> list[str]:
    """What runs there: a module and what it was given; nothing once it has ended."""
    with suppress(psutil.Error):
        return process.cmdline()[1:]
    return []


def running(kind: str) -> list[psutil.Process]:
    """The fork server of this kind, if it runs."""
    return [one for one in psutil.Process().children() if command(one)[:3] == ["-m", fork_server.__name__, kind]]
