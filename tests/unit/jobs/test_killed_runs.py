"""What is left of a job's helpers when Snakemake is killed, and of the log when two runs make the same result."""

import os
import subprocess
import sys
import time
from pathlib import Path

from checkout import ROOT
from lntune.jobs.submit import _begin

# A stand-in of Snakemake, which starts processes, tells the number of the last, and can be killed.
PARENT = """
import subprocess, sys, threading, time
from lntune.jobs import fork_server

if sys.argv[1:]:  # no server comes
    fork_server._look_after = lambda kind, listener, environment: time.sleep(600)
    fork_server.start()
    print(subprocess.Popen([sys.executable, "-m", "lntune.jobs.submit", *sys.argv[1:]]).pid, flush=True)
else:
    started = subprocess.Popen
    def tell(*arguments, **options):
        process = started(*arguments, **options)
        print(process.pid, flush=True)
        return process
    subprocess.Popen = tell
    fork_server.start()
time.sleep(600)
"""


def start_parent(*job: str) -> tuple["subprocess.Popen[str]", int]:
    """The parent, and the number of the process that it started: of the job, or without one of the fork server."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", PARENT, *job]
    parent = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


def test_a_job_that_waits_for_the_fork_server_of_a_killed_run_never_starts(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    parent, pid = start_parent(str(tmp_path / "missing.json"), str(log))
    while not log.exists():
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    wait_for_end(pid)
    assert log.read_bytes() == b""  # a job would have said that there is no such job spec


def test_the_fork_server_of_a_killed_run_ends() -> None:
    parent, pid = start_parent()
    parent.kill()
    parent.wait()
    wait_for_end(pid)


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
