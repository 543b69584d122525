"""Ranks that die before they have met the others: which one it was, and its last words, come out at once."""

import os
import time
from pathlib import Path

import pytest

from checkout import ROOT
from lntune.training.launch import RankCrash, launch

RANK = """
import os, signal, sys, time
if os.environ["RANK"] == "0":
    time.sleep(60)  # waits for the other
print("on its way", file=sys.stderr, flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os._exit(3)", "ended with exit code 3: on its way"),
        ("import nowhere", "ended with exit code 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("os.abort()", "ended by SIGABRT: on its way"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL; the machine may be out of memory"),
        ("os.kill(os.getpid(), 40)", "ended by signal 40: on its way"),
    ],
)
def test_a_rank_that_dies_before_it_meets_the_others_is_named_with_its_last_words(
    end: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dying_rank.py").write_text(RANK.format(end=end))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT / "src"), str(tmp_path))))
    began = time.monotonic()
    with pytest.raises(RankCrash) as raised:
        launch("dying_rank", {}, 2, 1, "finetune it")
    assert str(raised.value) == f"finetune it: rank 1 {how}"
    assert time.monotonic() - began < 10  # most of it Python's start on a busy machine
    printed = capfd.readouterr()
    assert printed.err == "" and "on its way" in printed.out  # the log has the others' words
