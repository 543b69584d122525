"""What a trial measures of a tiny model, in one process with the plain engine."""

import json
from pathlib import Path

import pytest
import torch

from lntune.config.training import Execution, TrainingSettings
from lntune.model.features import EncodedImages
from lntune.model.tuning import apply_method
from lntune.training.trial import FASTEST, LONGEST, MORE, Notes, Trial, attention_kernels, machine
from tiny_multimodal import image, tiny_model

SETTINGS = TrainingSettings(
    learning_rate=1e-3, epochs=1.0, global_batch=4, warmup_ratio=0.0, weight_decay=0.0, max_length=24, precision="fp32",
)  # fmt: skip


def tiny_trial(folder: Path, highest_rate: float = 1e-2) -> Trial:
    model = tiny_model()
    apply_method(model, "layernorm", None)
    features = EncodedImages(model.vision, image, count=7, cache=False)
    execution = Execution(micro_batch=2, threads=1)
    return Trial(model, features, SETTINGS, execution, 12, 8, highest_rate, folder / "scratch")


def test_a_trial_measures_each_part_and_resumes_to_equal_steps(tmp_path: Path) -> None:
    first, again = Notes(tmp_path / "first.json"), Notes(tmp_path / "again.json")
    tiny_trial(tmp_path).first(first)
    tiny_trial(tmp_path).again(again)
    assert list(first.parts) == ["start", "longest", "typical", "images", "checkpoint", "more"]
    assert first.parts["longest"]["positions"] == 24 and first.parts["typical"]["positions"] == 1 + 4 + 12
    assert first.parts["typical"]["attention"] == ["cpu"] and first.parts["typical"]["tokens_per_second"] > 0
    assert first.parts["checkpoint"]["bytes"] > 0 and first.parts["images"]["share_of_step"] > 0
    steps = first.parts["more"]["steps"]
    assert len(steps) == MORE and steps == again.parts["resume"]["steps"]
    assert steps == again.parts["repeat"]["steps"]
    assert again.parts["highest rate"]["diverged_at"] is None
    assert len(again.parts["highest rate"]["steps"]) == FASTEST
    assert json.loads(first.path.read_text())["doing"] == ""


def test_a_rate_at_which_training_diverges_is_found_with_its_step(tmp_path: Path) -> None:
    tiny_trial(tmp_path).first(Notes(tmp_path / "first.json"))
    again = Notes(tmp_path / "again.json")
    tiny_trial(tmp_path, highest_rate=1e30).again(again)
    assert again.parts["highest rate"]["diverged_at"] == 2 and again.parts["highest rate"]["rate"] == 1e30


def test_notes_name_the_part_in_which_a_trial_ended(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.json")
    with pytest.raises(torch.cuda.OutOfMemoryError), notes.part("longest"):
        raise torch.cuda.OutOfMemoryError("no room")
    assert json.loads(notes.path.read_text()) == {"parts": {}, "doing": "longest"}


def test_longest_samples_fill_the_length_and_come_first(tmp_path: Path) -> None:
    trial = tiny_trial(tmp_path)
    lengths = [trial.model.vision.tokens - 1 + len(trial.batch(step)[0].input_ids) for step in range(LONGEST + 2)]
    assert lengths == [24] * LONGEST + [17, 17]


def test_attention_with_a_mask_is_not_taken_for_the_causal_kernel() -> None:
    q = torch.ones(1, 1, 2, 8)
    with attention_kernels() as kernels:
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert kernels == set() and machine()["gpu"] is None
