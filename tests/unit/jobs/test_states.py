"""What jobs and runs leave in the store while they are at work, and what ``lntune status`` makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lntune.commands.status import status
from lntune.jobs import submit
from lntune.jobs.states import announced, begin, failed, job_states, runs, succeeded
from lntune.progress import PROGRESS, track

A, B, C = "finetune/a-0123456789ab", "finetune/b-0123456789ac", "predict/c-0123456789ad"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store in which a run has written the specs of three jobs."""
    for name in (A, B, C):
        spec = tmp_path / ".jobs" / f"{name}.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        spec.write_text("{}")
    return tmp_path


def spec_of(store: Path, name: str) -> str:
    return str(store / ".jobs" / f"{name}.json")


def test_a_run_with_a_job_that_runs_one_that_failed_and_one_that_waits(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(spec_of(store, A))
    begin(spec_of(store, B))
    (store / "log").write_text("Traceback\n\nerror: finetune b: the disk is full\n\n")
    failed(spec_of(store, B), str(store / "log"))
    monkeypatch.setenv(PROGRESS, spec_of(store, A).replace(".json", ".progress"))
    with announced(str(store), [A, B, C]):
        with track(40, "a", "steps", done=10) as progress:
            progress.advance(10, loss=0.5)
        found = status(store)
        lines = found.text().splitlines()
    assert lines[0].startswith(f"{os.getcwd()} of ") and lines[0].endswith("0 of 3 results done, 1 queued, 1 failed")
    assert lines[1].startswith(f"running  {A}  20/40 steps (50%), ") and " left, loss 0.5, for 0:0" in lines[1]
    assert lines[2:4] == [f"failed   {B}  error: finetune b: the disk is full", "queued   predict 1"]
    assert [one.path for one in found.running] == [A] and not found.lost
    document = json.loads(json.dumps(found.to_json()))
    assert document["runs"][0]["queued"] == [C] and document["running"][0]["progress"]["done"] == 20
    succeeded(spec_of(store, A))
    assert [one.path for one in job_states(store)] == [B] and not runs(str(store))
    assert status(store).text().splitlines()[0] == f"{store}: no run is at work"


def test_what_needs_a_failed_result_is_blocked_and_not_queued(store: Path) -> None:
    """C is made from a part of B, and its score from C; the score that is made from A waits for its turn."""
    score, other = "score-pope/c-0123456789ae", "score-pope/a-0123456789af"
    inputs = {C: {"llm": "results/fetch/x-0", "tuned": f"results/{B}/chosen"}, other: {"answers": f"results/{A}"},
              score: {"answers": ["results/questions-pope/q-0", f"results/{C}"]}}  # fmt: skip
    for name, given in inputs.items():
        Path(spec_of(store, name)).parent.mkdir(exist_ok=True)
        Path(spec_of(store, name)).write_text(json.dumps({"store": "results", "inputs": given}), encoding="utf-8")
    begin(spec_of(store, B))
    failed(spec_of(store, B), "no log")
    with announced(str(store), [score, other, A, B, C]):
        found = status(store)
        lines = found.text().splitlines()
    assert lines[0].endswith("0 of 5 results done, 2 queued, 1 failed, 2 blocked")
    assert lines[2:] == ["queued   finetune 1, score-pope 1", "blocked  predict 1, score-pope 1: they need what failed"]
    assert (found.queued, found.blocked) == (((A, other),), ((C, score),))
    assert found.to_json()["runs"][0]["blocked"] == (C, score)


def test_a_job_whose_process_was_killed_is_lost_and_a_run_that_was_killed_is_none(store: Path) -> None:
    code = (
        "import os, sys; from lntune.jobs.states import announced, begin; begin(sys.argv[1])\n"
        "with announced(sys.argv[2], []): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, spec_of(store, A), str(store)])
    assert len(list((store / ".runs").iterdir())) == 1 and not runs(str(store))
    assert [one.path for one in status(store).lost] == [A]
    with announced(str(store), []):
        assert [run.pid for run in runs(str(store))] == [os.getpid()], "the next run takes the file away"


def test_damaged_files_are_passed_over(store: Path) -> None:
    begin(spec_of(store, B))
    for name, text in ((f"{A}.state", "{"), (f"{C}.state", "{}"), (f"{B}.progress", "[]")):
        (store / ".jobs" / name).write_text(text)
    (one,) = job_states(store)
    assert one.path == B and one.progress is None and one.left is None


def test_a_job_leaves_its_last_line_if_it_fails_and_nothing_if_it_does_not(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(submit.VARIABLE, raising=False)
    log = str(store / "log")
    Path(spec_of(store, A)).write_text('{"identity": {}}', encoding="utf-8")
    assert submit.main([spec_of(store, A), log]) == 1
    (one,) = job_states(store)
    assert one.failed is not None and "damaged job spec" in one.failed
    monkeypatch.setattr(submit, "_run", lambda *_: 0)
    assert submit.main([spec_of(store, A), log]) == 0 and not list(job_states(store))


def test_a_store_that_may_not_be_written_stops_nothing() -> None:
    spec = "/proc/nowhere/x-0123456789ab.json"
    begin(spec)
    failed(spec, "/proc/nowhere/log")
    succeeded(spec)
    with announced("/proc/nowhere", [A]):
        pass


def test_progress_in_bars_is_for_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = "a: 120/564 steps (21%), 22.9 steps/min, 19:22 left, loss 1.262\n"
    kept = "warning: x\na: 564/564 steps (100%), 3 steps/s, 3:01 in all\n"
    with open(os.devnull, "wb") as log:
        submit._show((told + kept).encode(), log)
        monkeypatch.setenv(submit.BARS, "1")
        submit._show((told + kept).encode(), log)
    assert capfd.readouterr().err == told + kept + kept


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lntune.commands.status", {"torch", "numpy", "transformers", "pandas"}),
        ("lntune.jobs.states", {"dataclasses", "inspect", "pathlib", "pydantic", "lntune.files"}),  # by every submit
    ],
)
def test_nothing_heavy_is_imported(module: str, heavy: set[str]) -> None:
    code = (
        f"import sys, json; before = {{*sys.modules}}; import {module}; print(json.dumps([*{{*sys.modules}} - before]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert module in (loaded := json.loads(done.stdout)) and heavy.isdisjoint(loaded)
