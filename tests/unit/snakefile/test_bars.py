"""Bars on a real terminal: below what others write, gone at the end, and no more than plain lines elsewhere."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lntune.jobs.states import JobState, begin
from lntune.snakefile.bars import Bars, start_bars

JOBS = {
    "finetune/a-0123456789ab": lambda: 60.0,
    "finetune/b-0123456789ac": lambda: 60.0,
    "predict/c-0123456789ad": lambda: None,
}

# Writes lines as Snakemake does and as its jobs do, while a job of the run is at work.
WRITER = """
import os, subprocess, sys, time
from pathlib import Path
from lntune.jobs.states import begin
from lntune.snakefile.bars import start_bars
store = Path(sys.argv[1])
begin(f"{store}/.jobs/finetune/a-0123456789ab.json")
Path(f"{store}/.jobs/finetune/a-0123456789ab.progress").write_text(
    '{"done": 3, "total": 4, "unit": "steps", "rate": 0.5, "info": "", "time": 0}')
start_bars(store, {"finetune/a-0123456789ab": lambda: 9.0, "finetune/b-0123456789ac": lambda: 9.0}, 2)
for line in range(60):
    if line % 2:
        subprocess.run(["sh", "-c", f"echo line {line} >&2"])
    else:
        print("line", line, file=sys.stderr)
    time.sleep(0.05)
Path(store, "written").touch()
while not Path(store, "end").exists():
    time.sleep(0.05)
print("the end")
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / ".jobs" / "finetune").mkdir(parents=True)
    return tmp_path


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux, a terminal to look at")
def test_lines_of_others_stay_whole_above_the_bars_which_are_gone_at_the_end(store: Path) -> None:
    terminal = ("tmux", "-f", "/dev/null", "-S", str(store / "tmux"))

    def seen() -> list[str]:
        done = subprocess.run([*terminal, "capture-pane", "-p", "-t", "it"], capture_output=True, text=True)
        return [line.rstrip() for line in done.stdout.splitlines()]

    def wait_for(name: str) -> None:
        ends = time.monotonic() + 60
        while not (store / name).exists():
            assert time.monotonic() < ends, seen()
            time.sleep(0.1)

    (store / "writer.py").write_text(WRITER)
    size, command = ("-x", "90", "-y", "20"), [sys.executable, str(store / "writer.py"), str(store)]
    keep = f"{' '.join(command)}; touch {store}/over; sleep 60"
    environment = {name: value for name, value in os.environ.items() if name != "TMUX"}
    subprocess.run([*terminal, "new-session", "-d", "-s", "it", *size, keep], env=environment, check=True)
    try:
        wait_for("written")
        time.sleep(1.5)
        *lines, empty, job, run = seen()
        assert not empty and lines[-1] == "" and lines[-17:-1] == [f"line {one}" for one in range(44, 60)]
        assert job == "━━━━━━━━━━━━━━━┄┄┄┄┄ finetune a: 3/4 steps (75%), 30 steps/min, 0:02 left"
        assert run.startswith("┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ 0/2 results, 0:0") and run.endswith(" so far, about 0:06 left")
        (store / "end").touch()
        wait_for("over")
        lines = [line for line in seen() if line]
        assert lines[-2:] == ["line 59", "the end"]
    finally:
        subprocess.run([*terminal, "kill-server"])


def test_jobs_that_are_done_tell_how_long_others_will_take(store: Path) -> None:
    bars = Bars(store, JOBS, at_once=1)
    begin(str(store / ".jobs" / "finetune/a-0123456789ab.json"))
    bars.look()
    assert [type(one) for one in bars._running.values()] == [JobState]
    bars._expected = {name: expected() for name, expected in JOBS.items()}
    assert bars.lines(3, 90)[-1].endswith("0/3 results, 0:00 so far, about 2:00 left and 1 of unknown length")
    (store / "finetune/a-0123456789ab").mkdir(parents=True)
    (store / "finetune/a-0123456789ab/manifest.json").write_text("{}")
    for path in (store / ".jobs/finetune").iterdir():
        path.unlink()
    bars.look()
    assert bars.lines(3, 90) == [
        "━━━━━━━┄┄┄┄┄┄┄┄┄┄┄┄┄ 1/3 results, 0:00 so far, about 0:00 left and 1 of unknown length"
    ]


def test_without_a_terminal_there_are_none(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_bars(store, JOBS, 2)
    time.sleep(0.1)
    assert capsys.readouterr() == ("", "") and "LNTUNE_BARS" not in os.environ
