"""A checkpoint that does not hold what every rank wrote is never used, and the one before it is still there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lntune.training import ranks
from lntune.training.checkpoint import load_checkpoint, save_checkpoint

TRAINED = ["a", "b"]
STATE = {f"{kind}/{name}": torch.ones(2) for kind in ("weight", "exp_avg") for name in TRAINED}


def drop_file(folder: Path) -> None:
    next(folder.glob("tensors-*")).unlink()


def cut_file(folder: Path) -> None:
    path = next(folder.glob("tensors-*"))
    path.write_bytes(path.read_bytes()[:-4])


def list_the_first_rank_alone(folder: Path) -> None:
    path = folder / "state.json"
    state = json.loads(path.read_text())
    (file,) = state["tensors"]
    state["tensors"][file] = ["exp_avg/a", "weight/a"]
    path.write_text(json.dumps(state))


@pytest.mark.parametrize("harm", [drop_file, cut_file, list_the_first_rank_alone])
def test_a_checkpoint_that_lacks_tensors_is_left_out_for_the_one_before(
    harm: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, "digest", 2, ["line\n"] * 2, STATE.items())
    shutil.copytree(tmp_path / "step-2", tmp_path / "step-4")
    harm(tmp_path / "step-4")
    found = load_checkpoint(tmp_path, "digest", TRAINED)
    assert found is not None and len(found[0]) == 2 and found[1].keys() == STATE.keys()
    assert caplog.messages == [f"{tmp_path}/step-4: left out, it does not hold every rank's tensors"]


def test_what_another_rank_wrote_and_is_not_there_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, "digest", 2, ["line\n"] * 2, STATE.items())
    monkeypatch.setattr(ranks, "of_all", lambda value: [value, 4])
    with pytest.raises(RuntimeError, match="holds 4 tensors, not the 8 that all ranks have written"):
        save_checkpoint(tmp_path, "digest", 4, ["line\n"] * 4, STATE.items())
    monkeypatch.undo()
    found = load_checkpoint(tmp_path, "digest", TRAINED)
    assert found is not None and len(found[0]) == 2
