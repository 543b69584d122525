"""Training by the rehearsal's own code (lntune.training.trial): a method, and images with and without prefetching."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from gpu_suite.made_up import IMAGES, Shape, build, forget, jpegs, loader
from lntune.config.training import Execution, Passes, Precision, TrainingSettings
from lntune.estimate.hours import step_operations
from lntune.estimate.jobs import TrainingJob
from lntune.estimate.memory import MemoryAccount, predict_memory
from lntune.model.device import numerics
from lntune.model.features import EncodedImages
from lntune.training.loop import make_engine, training_mode
from lntune.training.trial import LONGEST, Notes, Step, Trial

RATE, HIGHEST = 1e-4, 2e-3
"""Learning rates: within the paper's search, and its highest."""

ROOM = 0.95
"""The share of a GPU's memory that a prediction may take."""

PEAKS: dict[str, dict[Precision, float]] = {
    "A100": {"fp32": 19.5, "tf32": 156, "bf16": 312},
    "H100 NVL": {"fp32": 60, "tf32": 418, "bf16": 835},
    "H200 NVL": {"fp32": 60, "tf32": 418, "bf16": 835},
    "H100 PCIe": {"fp32": 51, "tf32": 378, "bf16": 756},
    "H100": {"fp32": 67, "tf32": 494, "bf16": 989},
    "H200": {"fp32": 67, "tf32": 494, "bf16": 989},
}
"""TFLOPS of dense matrix products by NVIDIA's data sheets; the first name that a card's holds is taken."""


def peak_operations(precision: Precision) -> float | None:
    """Operations a second of this GPU at its best; None without one, or for one that is not known."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((1e12 * peaks[precision] for card, peaks in PEAKS.items() if card in name), None)


def a_job(shape: Shape, method: str, precision: Precision) -> TrainingJob:
    """The method on this one GPU, without DeepSpeed."""
    schedule = TrainingSettings(
        learning_rate=RATE, epochs=1.0, global_batch=shape.global_batch, warmup_ratio=0.0, weight_decay=0.0,
        max_length=shape.length, precision=precision,
    )  # fmt: skip
    return TrainingJob(
        label=method, stage="finetune", llm=shape.llm, vision=shape.vision, method=method,
        lora=shape.lora if method == "lora" else None, schedule=schedule, engine="plain", ranks=1, zero_stage=0,
        recompute=True,
    )  # fmt: skip


def passes(micro_batch: int) -> Passes:
    """Passes of so many samples, all of which recompute their activations."""
    return Passes(micro_batch=micro_batch, recompute_above=0)


def predicted(job: TrainingJob, micro_batch: int) -> MemoryAccount:
    """The memory of its longest batch."""
    setup = job.setup(micro_batch * job.schedule.max_length, 0, recompute=True)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    return predict_memory(setup.model_copy(update={"device": where}))


def fitting(job: TrainingJob, largest: int) -> int:
    """The largest micro-batch, a power of two, that is predicted to fit this GPU; 0 if none does."""
    if not torch.cuda.is_available():
        return largest
    room = ROOM * torch.cuda.get_device_properties(0).total_memory
    sizes = [1 << power for power in reversed(range(largest.bit_length()))]
    return next((size for size in sizes if predicted(job, size).peak <= room), 0)


def train_method(found: dict[str, Any], shape: Shape, method: str, precision: Precision) -> None:
    """All that a trial measures of one method, beside what was predicted."""
    job = a_job(shape, method, precision)
    found |= {"method": method, "precision": precision, "micro_batch": fitting(job, shape.micro_batch)}
    found["predicted_bytes"] = predicted(job, max(found["micro_batch"], 1)).peak
    if not found["micro_batch"]:
        return
    with tempfile.TemporaryDirectory(prefix="gpu-suite-") as folder:
        for attempt in ("first", "again"):
            forget()
            notes = Notes(Path(folder) / f"{attempt}.json")
            try:
                getattr(_trial(job, shape, found["micro_batch"], Path(folder)), attempt)(notes)
            finally:
                found[attempt] = notes.parts
    _compare(found, job, shape)


def _trial(job: TrainingJob, shape: Shape, micro_batch: int, folder: Path) -> Trial:
    assert isinstance(job.schedule, TrainingSettings)
    model = build(shape, job.method, job.schedule.precision)
    features = EncodedImages(model.vision, loader(model.vision, jpegs()), IMAGES, cache=False, workers=_threads())
    execution = Execution(**dict(passes(micro_batch)), threads=torch.get_num_threads(), workers=_threads())
    return Trial(model, features, job.schedule, execution, shape.text, shape.answers, HIGHEST, folder / "checkpoints")


def _threads() -> int:
    """Threads that read images: one a core, within reason."""
    return min(len(os.sched_getaffinity(0)), 8)


def _compare(found: dict[str, Any], job: TrainingJob, shape: Shape) -> None:
    """What follows from the two attempts: memory against the prediction, shares of the peak, and what repeats."""
    first, again = found["first"], found["again"]
    typical, peak = first["typical"], peak_operations(job.schedule.precision)
    found["peak_bytes"] = first["longest"]["peak_bytes"]
    if peak is not None:
        most = peak * typical["seconds"] / shape.global_batch
        found["mfu"] = step_operations(job, shape.text, shape.answers, recompute=False) / most
        found["with_recomputation"] = step_operations(job, shape.text, shape.answers, recompute=True) / most
    found["resumed_equal"] = first["more"]["steps"] == again["resume"]["steps"]
    found["repeats"] = again["resume"]["steps"] == again["repeat"]["steps"]


def prefetching(found: dict[str, Any], shape: Shape, precision: Precision) -> None:
    """Steps of pretraining the connector, which has the most images a second: images read ahead, and not."""
    batch = 4 * shape.global_batch
    job = a_job(replace(shape, global_batch=batch), "connector-only", precision)
    files, losses = jpegs(), []
    for name, workers in (("off", 1), ("on", max(_threads(), 2))):
        forget()
        model = build(shape, job.method, precision)
        features = EncodedImages(model.vision, loader(model.vision, files), IMAGES, cache=False, workers=workers)
        execution = Execution(micro_batch=shape.global_batch, threads=torch.get_num_threads(), workers=workers)
        assert isinstance(job.schedule, TrainingSettings)
        trial = Trial(model, features, job.schedule, execution, shape.caption, shape.caption, HIGHEST, Path("unused"))
        done = typical_steps(trial, number=6)
        seconds = median(step.seconds for step in done[1:])
        found[name] = {"seconds": seconds, "images_per_second": batch / seconds, "workers": workers}
        losses.append([[step.loss, step.norm] for step in done])
        del model, features, trial
    found["equal"] = losses[0] == losses[1]


def typical_steps(trial: Trial, number: int) -> Sequence[Step]:
    """Steps of typical samples in a fresh engine, of which the first warms up."""
    with (
        numerics(trial.execution.threads, trial.settings.precision),
        training_mode(trial.model, recompute=trial.execution.recompute_above is not None),
    ):
        engine = make_engine(trial.model, trial.settings, trial.execution)
        return trial.steps(engine, LONGEST, number, RATE)
