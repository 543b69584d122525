"""What is left of a job's helpers when Snakemake is killed, and of the log when two runs make the same result."""

import os
import subprocess
import sys
import time
from pathlib import Path

from checkout import ROOT
from lntune.jobs.submit import VARIABLE, _begin

# A stand-in of Snakemake, which starts one process, tells its number, and can be killed.
PARENT = """
import os, subprocess, sys, time
command = [str(os.getpid()) if argument == "PARENT" else argument for argument in sys.argv[1:]]
print(subprocess.Popen(command).pid, flush=True)
time.sleep(600)
"""


def start_under_parent(folder: Path, *command: str) -> tuple["subprocess.Popen[str]", int]:
    """The parent, and the number of the process that it started."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), VARIABLE: str(folder)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, sys.executable, "-m", *command],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


def test_a_job_that_waits_for_the_fork_server_of_a_killed_run_never_starts(tmp_path: Path) -> None:
    folder, log = tmp_path / "server", tmp_path / "job.log"
    folder.mkdir()  # no server listens there yet
    parent, pid = start_under_parent(folder, "lntune.jobs.submit", str(tmp_path / "missing.json"), str(log))
    while not log.exists():
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    wait_for_end(pid)
    assert log.read_bytes() == b""  # a job would have said that there is no such job spec


def test_the_fork_server_of_a_killed_run_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    parent, pid = start_under_parent(folder, "lntune.jobs.fork_server", "plain", str(folder), "PARENT")
    while not (folder / "plain").exists():
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    wait_for_end(pid)
    assert not folder.exists()


def test_a_log_that_another_runs_job_writes_is_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / "job.log"
    path.write_bytes(b"of an earlier attempt\n")
    with path.open("ab", 0) as first:
        _begin(first)
        first.write(b"step 1\n")
        with path.open("ab", 0) as second:
            _begin(second)
            second.write(b"waits\n")
            first.write(b"step 2\n")
            assert path.read_bytes() == b"step 1\nwaits\nstep 2\n"
