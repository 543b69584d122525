"""Rehearsals of tiny models in ranks of their own: what is measured, and that what fails is a finding."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from forked import forked_processes
from lntune.config.llm_shape import LlmShape
from lntune.config.protocol import Prompting, Shot
from lntune.config.training import Execution, LoraSettings, Passes, Schedule
from lntune.estimate.jobs import TrainingJob
from lntune.estimate.shapes import VisionShape
from lntune.stages import predict, rehearsal, rehearse
from lntune.store.job import Job, NoExecution

LLM = LlmShape(hidden=32, intermediate=64, layers=2, heads=2, kv_heads=2, head_dim=16, vocabulary=300)
VISION = VisionShape(width=64, intermediate=128, layers=3, image=32, patch=16, pre_norm=True)
SCHEDULE = Schedule(
    epochs=1.0, global_batch=4, warmup_ratio=0.0, weight_decay=0.0, max_length=48, precision="fp32",
)  # fmt: skip


def tried(folder: Path, llm: LlmShape = LLM, precision: str = "fp32", engine: Any = "plain", ranks: int = 1) -> Any:
    """What a rehearsal with random weights writes."""
    lora = LoraSettings(rank=2, alpha=4, dropout=0.1)
    schedule = SCHEDULE.model_copy(update={"precision": precision})
    training = TrainingJob("rehearse", "finetune", llm, VISION, "lora", lora, schedule, engine, ranks, 2)
    asked = predict.Settings(
        method="lora", lora=lora, template="v1", system=None, library="open_clip", seed=0, temperature=0.2,
        top_k=50, min_new_tokens=1, blind=False, precision="bf16", batch_size=3,
        prompting=Prompting(max_new_tokens=3, shots=(Shot(question="What is it?", answer="A dog."),)),
    )  # fmt: skip
    settings = rehearse.Settings(
        training=training, passes=Passes(micro_batch=2), library="open_clip", template="v1", system=None,
        lowest_rate=1e-4,
        highest_rate=1e30, text=20, answers=12, gpu=None, asked={"pope": asked}, questions=3, seed=0, round=1,
    )  # fmt: skip
    given = Execution(micro_batch=2, threads=1, cache_features=False, engine=engine, ranks=ranks, zero_stage=2)
    out = folder / "out"
    out.mkdir()
    execution = rehearse.Execution(**dict(given))
    rehearse.run(Job("tiny lora", settings, execution, {}, out, folder / "scratch"))
    return rehearsal.read(out)


@pytest.mark.slow
@pytest.mark.parametrize("collectives", [(), ("late_collectives",)], ids=["gloo", "as NCCL"])
def test_deepspeed_ranks_with_random_weights_are_killed_and_resume_to_equal_steps(
    collectives: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (ROOT / "src", *(ROOT / "tests" / "helpers" / name for name in collectives))
    with forked_processes():
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
        found = tried(tmp_path, engine="deepspeed", ranks=2)
    assert found["failures"] == []
    assert {"load", "tokenize", "questions", "longest", "typical", "images", "checkpoint"} <= found["parts"].keys()
    assert found["compared"]["equal_after_resume"] is True and found["compared"]["repeats"] is True
    assert found["compared"]["predicted_bytes"] > 0 and "mfu" not in found["compared"]
    assert found["parts"]["load"]["weights"] == "random" and found["parts"]["load again"]["seconds"] > 0
    assert found["parts"]["highest rate"]["diverged_at"] == 2
    assert found["parts"]["questions"]["questions"] == 3 and found["parts"]["typical"]["positions"] == 25


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_a_finding_and_no_failed_job(tmp_path: Path) -> None:
    """An embedding of 400 TB, which no machine has."""
    with forked_processes():
        found = tried(tmp_path, llm=LLM.model_copy(update={"vocabulary": 10**12 * 3}))
    (failure,) = found["failures"]
    assert (failure["part"], failure["fits"]) == ("load", "no") and "memory" in failure["text"]
    assert failure["remedy"].startswith("raise mem_mb")


@pytest.mark.slow
def test_an_engine_that_refuses_is_a_finding_and_no_failed_job(tmp_path: Path) -> None:
    with forked_processes():
        found = tried(tmp_path, precision="bf16-weights")
    (failure,) = found["failures"]
    assert failure["part"] == "start" and "needs deepspeed" in failure["text"] and failure["fits"] == "not known"
    assert found["parts"]["questions"]["seconds"] > 0, "what came before it was measured"


MEASURED = {
    "load": {"seconds": 60.0, "gpu": "NVIDIA A100-SXM4-80GB", "weights": "real", "driver": "580.1"},
    "start": {"seconds": 30.0},
    "typical": {"seconds": 9.0, "tokens_per_second": 1834.6, "peak_bytes": 40},
    "highest rate": {"rate": 2e-3, "diverged_at": 3},
}


def test_the_table_tells_hours_of_all_trainings_and_remedies(tmp_path: Path) -> None:
    failure = {"part": "longest", "text": "rank 1: OutOfMemoryError: no | room", "remedy": "lower it", "fits": "no"}
    documents = [
        {"parts": MEASURED, "failures": [], "compared": {"predicted_bytes": 50, "peak_bytes": 40, "mfu": 0.31}},
        {"parts": {"load": MEASURED["load"]}, "failures": [failure], "compared": {"predicted_bytes": 50}},
    ]
    for number, document in enumerate(documents):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / rehearse.REHEARSAL).write_text(json.dumps(document))
    rows = tuple(rehearsal.Row(model="M", method=name, trainings=11, steps=11 * 2500) for name in ("lora", "finetune"))
    settings = rehearsal.Settings(name="rehearsal", rows=rows, scale="paper", scale_note="")
    inputs = {"rehearsals": (tmp_path / "0", tmp_path / "1")}
    rehearsal.run(Job("table", settings, NoExecution(), inputs, tmp_path, tmp_path / "scratch"))
    with (tmp_path / "rehearsal.csv").open(newline="") as file:
        fits, fails = csv.DictReader(file)
    assert (fits["fits"], fails["fits"], fails["remedy"]) == ("yes", "no", "lower it")
    assert float(fits["hours"]) == pytest.approx((11 * 90 + 11 * 2500 * 9.0) / 3600, rel=1e-4)
    assert fits["load: driver"] == "580.1" and fails["typical: seconds"] == ""
    text = (tmp_path / "rehearsal.md").read_text()
    assert "| M | lora | yes | 40 B (50 B) | 1,835 | 0.31 | 69.03 | - | -, - | 0.002: diverged at step 3 | - |" in text
    assert "longest: rank 1: OutOfMemoryError: no / room: lower it" in text and "NVIDIA A100-SXM4-80GB" in text
