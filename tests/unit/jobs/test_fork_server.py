"""Fork servers that die or hang at a bad moment: the user is told at once, and each job runs to its own end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from checkout import ROOT, copy_sources
from fork_servers import command, fork_servers, running
from lntune.jobs import fork_server, submit

T = TypeVar("T")
NO_SPEC = "no such job spec; it is written when snakemake starts"
"""What any job answers that is asked for a spec that is not there."""


@pytest.fixture(autouse=True)
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fork servers of this process, with a temporary folder too deep for a socket's path."""
    deep = tmp_path / ("d" * 130)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    with fork_servers():
        yield


def wait_for(find: Callable[[], T], seconds: float = 30.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def is_over(process: psutil.Process) -> bool:
    """Whether a process has ended; who is to take note of that may be slow."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def job(spec: Path, *options: str) -> "subprocess.Popen[str]":
    submit = [sys.executable, "-m", "lntune.jobs.submit", *options, str(spec), f"{spec}.log"]
    return subprocess.Popen(submit, stderr=subprocess.PIPE, text=True)


def waiting(tmp_path: Path) -> tuple[Path, "subprocess.Popen[str]", psutil.Process]:
    """A pipe in a spec's place, the process that waits for its job, and the job, which waits for what is written."""
    (server,) = wait_for(lambda: running("plain"))
    spec = tmp_path / "spec.json"
    os.mkfifo(spec)
    submitted = job(spec)
    return spec, submitted, wait_for(server.children)[0]


def kill(server: psutil.Process, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Kill a fork server; within two seconds a single line says so."""
    server.kill()
    said = wait_for(lambda: capfd.readouterr().err, 2.0)
    assert said == (
        f"warning: the fork server ({kind}) ended by SIGKILL; the machine may be out of memory; the jobs go on, "
        "each in a process of its own\n"
    )


def test_a_job_is_forked_whatever_the_length_of_the_temporary_folder(tmp_path: Path) -> None:
    spec, submitted, forked = waiting(tmp_path)
    assert command(forked)[:3] == ["-m", fork_server.__name__, "plain"]
    spec.write_text("{}")
    _, printed = submitted.communicate(timeout=60)
    assert submitted.returncode == 1 and "spec.json: damaged job spec (KeyError('stage')); run snakemake" in printed


def test_jobs_that_wait_for_a_server_that_is_killed_run_at_once_by_themselves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (server,) = wait_for(lambda: running("plain"))
    server.suspend()  # somewhere in its imports
    jobs = [job(tmp_path / name) for name in ("one.json", "two.json")]
    time.sleep(0.5)
    kill(server, "plain", capfd)
    jobs.append(job(tmp_path / "later.json"))
    for one in jobs:
        _, printed = one.communicate(timeout=60)
        assert one.returncode == 1 and NO_SPEC in printed and len(printed.splitlines()) == 1


def test_a_job_outlives_its_fork_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec, submitted, _ = waiting(tmp_path)
    (server,) = running("plain")
    kill(server, "plain", capfd)
    spec.write_text("{}")
    _, printed = submitted.communicate(timeout=60)
    assert submitted.returncode == 1 and "spec.json: damaged job spec (KeyError('stage')); run snakemake" in printed
    assert "KeyError" in Path(f"{spec}.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_of_a_dead_fork_server_is_still_stopped_and_its_end_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    _, submitted, forked = waiting(tmp_path)
    (server,) = running("plain")
    kill(server, "plain", capfd)
    if number == signal.SIGTERM:
        submitted.terminate()  # handed on
    else:
        forked.kill()
    _, printed = submitted.communicate(timeout=60)
    assert submitted.returncode == 1 and is_over(forked)
    assert printed == "error: the fork server is gone, and so is this job; run snakemake again\n"


def test_a_job_that_a_signal_ends_says_which(tmp_path: Path) -> None:
    _, submitted, forked = waiting(tmp_path)
    forked.kill()
    _, printed = submitted.communicate(timeout=60)
    assert submitted.returncode == 137
    assert printed == "error: spec: ended by SIGKILL; the machine may be out of memory\n"


def test_a_job_with_torch_needs_neither_server(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The one with torch starts when it is asked for, and dies on its way."""
    (plain,) = wait_for(lambda: running("plain"))
    kill(plain, "plain", capfd)
    submitted = job(tmp_path / "one.json", "--torch")
    (server,) = wait_for(lambda: running("torch"))
    kill(server, "torch", capfd)
    _, printed = submitted.communicate(timeout=60)
    assert submitted.returncode == 1 and NO_SPEC in printed and len(printed.splitlines()) == 1


def test_a_server_that_takes_no_job_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "_PATIENCE", 0.2)
    (server,) = wait_for(lambda: running("plain"))
    server.suspend()
    assert submit.main([str(tmp_path / "one.json"), str(tmp_path / "log")]) == 1
    hung, own = capfd.readouterr().err.splitlines()
    assert hung == "warning: the fork server (plain) took no job for 0.2 s; the job goes on"
    assert NO_SPEC in own


def test_clients_that_say_nothing_or_leave_early_hold_up_nobody(tmp_path: Path) -> None:
    wait_for(lambda: running("plain"))
    silent, gone = (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2))
    for client in (silent, gone):
        client.connect(submit.address("plain"))
    gone.close()
    with silent:
        _, submitted, forked = waiting(tmp_path)
        assert command(forked)[:3] == ["-m", fork_server.__name__, "plain"]
        submitted.kill()
        submitted.wait()
        wait_for(lambda: is_over(forked))


def test_a_job_runs_the_code_on_the_disk_though_the_server_has_imported_another(tmp_path: Path) -> None:
    copy_sources(tmp_path / "checkout")
    edited = tmp_path / "checkout/src/lntune/jobs/run.py"
    driver = (
        "import pathlib, subprocess, sys; from lntune.jobs import fork_server, submit; fork_server.start()\n"
        "def ask(): assert submit._run_forked('plain', ['spec.json'], open('log', 'ab'), submit._Forward()) == 1\n"
        f"ask(); run = pathlib.Path({str(edited)!r})\n"
        "run.write_bytes(run.read_bytes().replace(b'no such job spec', b'no spec there'))\n"
        "ask()"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "checkout/src")}
    done = subprocess.run(
        [sys.executable, "-c", driver], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    first, second = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert done.returncode == 0 and NO_SPEC in first and "no spec there" in second


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_jobs_of_another_user_are_not_taken() -> None:
    code = (
        "import os, socket, sys; from lntune.jobs.submit import address\n"
        "os.setuid(65534)\n"
        "client = socket.socket(socket.AF_UNIX); client.connect(address('plain'))\n"
        "socket.send_fds(client, [b'/\\0spec'], [1, 2]); sys.exit(len(client.recv(4)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
