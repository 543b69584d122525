"""A checkpoint that does not hold what every rank wrote is never used, and the one before it is still there."""

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


def flip_a_bit_of(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = next(folder.glob(name))
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)

    return harm


def cut_the_log(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text("line\n")


HARMS = {
    drop_file: "No such file", cut_file: "tensors-0-0.safetensors", cut_the_log: "metrics.jsonl",
    flip_a_bit_of("tensors-*"): "tensors-0-0.safetensors", flip_a_bit_of("metrics.jsonl"): "metrics.jsonl",
    flip_a_bit_of("state.json"): "state.json",
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_checkpoint_that_is_not_what_was_written_is_left_out_for_the_one_before(
    harm: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, "digest", 2, ["line\n"] * 2, STATE.items())
    shutil.copytree(tmp_path / "step-2", tmp_path / "step-4")
    harm(tmp_path / "step-4")
    found = load_checkpoint(tmp_path, "digest", TRAINED)
    assert found is not None and len(found[0]) == 2 and found[1].keys() == STATE.keys()
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/step-4: left out, it is damaged (") and HARMS[harm] in message


def test_a_checkpoint_without_what_is_trained_now_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_checkpoint(tmp_path, "digest", 2, ["line\n"] * 2, STATE.items())
    assert load_checkpoint(tmp_path, "digest", [*TRAINED, "c"]) is None
    assert caplog.messages == [f"{tmp_path}/step-2: left out, it does not hold every rank's tensors"]


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
