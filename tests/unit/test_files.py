"""Files are written whole or not at all, and locks keep others out for as long as their process lives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lntune import files
from lntune.files import is_locked, link_or_copy, locked, write_whole

HOLD = """
import sys
from pathlib import Path
from lntune.files import locked
with locked(Path(sys.argv[1]), lambda: True, shared=sys.argv[2] == "shared") as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def hold(path: Path, kind: str) -> "subprocess.Popen[str]":
    """Another process that holds a lock."""
    command = [sys.executable, "-c", HOLD, str(path), kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    return process


@pytest.mark.parametrize("durable", [False, True])
def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old ä", durable=durable)
    write_whole(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"

    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "newer", durable=durable)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_linked_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    link_or_copy(source, tmp_path / "linked")
    monkeypatch.setattr(files, "link", lambda source, target: False)
    link_or_copy(source, tmp_path / "copied")
    assert os.path.samefile(source, tmp_path / "linked") and not os.path.samefile(source, tmp_path / "copied")
    assert (tmp_path / "copied").read_text() == "x"


@pytest.mark.parametrize("theirs", ["exclusive", "shared"])
@pytest.mark.parametrize("ours", ["exclusive", "shared"])
def test_a_lock_keeps_others_out_unless_both_are_shared(tmp_path: Path, theirs: str, ours: str) -> None:
    path = tmp_path / "locks" / "a.lock"
    together = theirs == ours == "shared"
    with hold(path, theirs) as process:
        assert is_locked(path) == (theirs == "exclusive")
        with locked(path, lambda: False, shared=ours == "shared") as held:
            assert held == together
        process.communicate()
    assert not path.exists() and not is_locked(path)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    waited = []
    with hold(path, "exclusive") as process:

        def busy() -> bool:
            waited.append(True)
            process.send_signal(signal.SIGKILL)
            return True

        with locked(path, busy) as held:
            assert held and waited == [True] and path.exists()
    assert not path.exists()


def test_without_locks_in_the_file_system_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int, kind: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", fail)
    path = tmp_path / "a.lock"
    with locked(path, lambda: False) as held:
        assert held and not is_locked(path)
