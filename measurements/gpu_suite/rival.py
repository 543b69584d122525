"""The same training by Hugging Face's Trainer, with PEFT if it is there: same weights, batch, tokens, card and run.

Both sides train on text alone with bf16 autocast, activation checkpointing and fused AdamW, one micro-batch a step.
The Trainer's head sees every position, ours those of answers; nothing is padded. Ours takes deterministic kernels
alone, the Trainer its defaults. LoRA's A is drawn by each side, so gradient norms differ there; the losses do not.
"""

import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from gpu_suite.made_up import IMAGES, Shape, build, forget
from gpu_suite.training import HIGHEST, RATE, a_job, typical_steps
from lntune.config.training import Execution, TrainingSettings
from lntune.estimate.training_step import llm_config
from lntune.model.device import device
from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample
from lntune.model.features import EncodedImages
from lntune.training.trial import LONGEST, Trial, peak_bytes, restart_peak

STEPS, WARM_UP = 8, 3
NORMS = ("input_layernorm", "post_attention_layernorm")


class TextTrial(Trial):
    """A trial of typical samples whose images are words instead: as many positions, no image."""

    def batch(self, step: int) -> list[EncodedSample]:
        """The global batch of a step."""
        tokens = self.model.vision.tokens
        found = []
        for sample in super().batch(step):
            words = [3 + place % 100 for place in range(tokens)]
            at = sample.input_ids.index(IMAGE_ID)
            ids, labels = ([*row[:at], *middle, *row[at + 1 :]] for row, middle in (
                (sample.input_ids, words), (sample.labels, [IGNORE] * tokens),
            ))  # fmt: skip
            found.append(EncodedSample(ids, labels, None))
        return found


class Clock(TrainerCallback):
    """The seconds of each step."""

    def __init__(self) -> None:
        self.started, self.seconds = 0.0, list[float]()

    def on_step_begin(self, *given: Any, **named: Any) -> None:
        """Begin."""
        _wait()
        self.started = time.perf_counter()

    def on_step_end(self, *given: Any, **named: Any) -> None:
        """End."""
        _wait()
        self.seconds.append(time.perf_counter() - self.started)


def beside_trainer(found: dict[str, Any], shape: Shape, method: str) -> None:
    """Tokens a second and peak memory of both, and the first step's loss and gradient norm of both."""
    shape = replace(shape, lora=shape.lora.model_copy(update={"dropout": 0.0}), micro_batch=shape.global_batch)
    found |= {"method": method, "peft": bool(find_spec("peft"))}
    trial = _our_trial(shape, method)
    batches = [trial.batch(LONGEST + step) for step in range(STEPS)]
    positions = sum(len(sample.input_ids) for sample in batches[0])
    restart_peak()
    done = typical_steps(trial, STEPS)
    found["ours"] = _figures([step.seconds for step in done], positions, done[0].loss, done[0].norm)
    del trial
    forget()
    found["trainer"] = _theirs(shape, method, batches, positions)
    for key in ("loss", "norm"):
        found[f"{key}_differs"] = abs(found["ours"][key] / found["trainer"][key] - 1)


def _our_trial(shape: Shape, method: str) -> TextTrial:
    job = a_job(shape, method, "bf16")
    model = build(shape, method, "bf16")
    features = EncodedImages(model.vision, _no_image, IMAGES, cache=False)
    execution = Execution(micro_batch=shape.global_batch, threads=torch.get_num_threads())
    assert isinstance(job.schedule, TrainingSettings)
    return TextTrial(model, features, job.schedule, execution, shape.text, shape.answers, HIGHEST, Path("unused"))


def _theirs(shape: Shape, method: str, batches: list[list[EncodedSample]], positions: int) -> dict[str, float]:
    with torch.device(device()):
        torch.manual_seed(0)  # as gpu_suite.made_up.build, so both have the same weights
        llm = LlamaForCausalLM(llm_config(shape.llm, "sdpa"))
    model = _tuned(llm, method, shape)
    data = [
        {"input_ids": torch.tensor(sample.input_ids), "labels": torch.tensor(sample.labels)}
        for batch in batches
        for sample in batch
    ]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=shape.global_batch, max_steps=STEPS, learning_rate=RATE,
            lr_scheduler_type="constant", train_sampling_strategy="sequential", use_cpu=not torch.cuda.is_available(),
            bf16=True, activation_checkpointing=True, activation_checkpointing_kwargs={"use_reentrant": False},
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, optim="adamw_torch_fused",
            dataloader_pin_memory=torch.cuda.is_available(),
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[clock])  # type: ignore[arg-type]
        trainer.remove_callback(PrinterCallback)
        restart_peak()
        trainer.train()
    first = next(line for line in trainer.state.log_history if "loss" in line)
    return _figures(clock.seconds, positions, first["loss"], first["grad_norm"])


def _tuned(llm: LlamaForCausalLM, method: str, shape: Shape) -> Any:
    """The LLM, of which the method's part trains: by PEFT, or without it the norms by hand."""
    if find_spec("peft"):
        from races.mixed_lengths import Race
        from races.trainer_worker import tuned

        rank, batch = shape.lora.rank, shape.global_batch
        race = Race(
            llm=Path("none"), vocabulary=shape.llm.vocabulary, pool=batch, global_batch=batch, steps=STEPS,
            learning_rate=RATE, lora_rank=rank,
        )  # fmt: skip
        return tuned(llm, method, race)
    assert method == "layernorm-simp", "PEFT is there for LoRA"
    llm.requires_grad_(False)
    for layer in llm.model.layers:
        for name in NORMS:
            getattr(layer, name).requires_grad_(True)
    return llm


def _figures(seconds: list[float], positions: int, loss: float, norm: float) -> dict[str, float]:
    each = median(seconds[WARM_UP:])
    return {
        "seconds": each, "tokens_per_second": positions / each, "peak_bytes": peak_bytes(), "loss": loss, "norm": norm,
    }  # fmt: skip


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _no_image(index: int) -> torch.Tensor:
    raise AssertionError("the samples are text alone")
