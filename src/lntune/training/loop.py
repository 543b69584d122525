"""The one training loop, for connector and finetuning alike: what trains is what requires gradients.

Every step draws its own random numbers from the seed and its index, and everything else follows from the
settings, so a run that was killed and starts again from its last checkpoint ends with the bytes of an
undisturbed one.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lntune.config.training import Execution, TrainingSettings
from lntune.errors import UserError
from lntune.model.encode import EncodedSample
from lntune.model.features import FeatureSource
from lntune.model.multimodal import MultimodalModel, count_answer_tokens
from lntune.model.numerics import numerics
from lntune.progress import track
from lntune.training.batches import micro_batches, step_batches
from lntune.training.checkpoint import Checkpoint, load_checkpoint, run_digest, save_checkpoint
from lntune.training.engine import Engine, PlainEngine
from lntune.training.schedule import learning_rate, total_steps

# Called with the index of the step and the model, after the backward passes and before clipping and update.
# What it returns joins the step's line of the metrics log, and so survives a kill with it.
Recorder = Callable[[int, MultimodalModel], Mapping[str, object]]


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: optimiser steps, the loss of each, answer tokens seen, seconds in this process."""

    steps: int
    losses: list[float]
    tokens: int
    seconds: float


def train(
    model: MultimodalModel,
    samples: Sequence[EncodedSample],
    features: FeatureSource,
    settings: TrainingSettings,
    execution: Execution,
    seed: int,
    scratch: Path,
    log: Path,
    label: str,
    recorder: Recorder | None = None,
) -> TrainingResult:
    """Train, in place, the parameters of ``model`` that require gradients.

    ``log`` gets one JSON line a step: step, loss (mean cross entropy over the step's answer tokens),
    learning_rate, answer_tokens, grad_norm (before clipping) and what ``recorder`` adds; no times, so that
    equal runs write equal bytes. ``scratch`` holds the checkpoints; what it holds of this very run is
    resumed from. ``label`` names the run in the progress shown. Raises UserError when the loss is no longer
    finite.
    """
    started = time.monotonic()
    total = total_steps(len(samples), settings)
    with (
        numerics(execution.threads, settings.precision),
        training_mode(model, settings.gradient_checkpointing),
    ):
        digest = run_digest(model, samples, settings, seed)
        engine: Engine = PlainEngine(model, settings)
        lines = resume(engine, scratch, digest)
        log.write_text("".join(lines))
        lengths = [len(sample.input_ids) for sample in samples]
        batches = step_batches(lengths, settings.global_batch, seed, len(lines), total)
        with (
            log.open("a", buffering=1) as file,
            track(total, label, "steps", done=len(lines)) as progress,
        ):
            for step, batch in enumerate(batches, start=len(lines)):
                torch.manual_seed(step_seed(seed, step))
                chosen = [samples[index] for index in batch]
                loss = accumulate(engine, chosen, features, execution.micro_batch)
                recorded = recorder(step, model) if recorder else {}
                rate = learning_rate(step, total, settings)
                loss_value, norm = torch.stack([loss, engine.step(rate)]).tolist()
                answers = count_answer_tokens(chosen)
                lines.append(metrics_line(step, loss_value, norm, rate, answers, recorded))
                file.write(lines[-1])
                every = execution.checkpoint_steps
                if every and (step + 1) % every == 0 and step + 1 < total:
                    save_checkpoint(scratch, digest, Checkpoint(step + 1, lines, engine.state()))
                progress.advance(1, loss=loss_value)
    return summarise(lines, time.monotonic() - started)


def resume(engine: Engine, scratch: Path, digest: str) -> list[str]:
    """Bring the engine to this run's last checkpoint, if there is one; return the log's lines up to there."""
    checkpoint = load_checkpoint(scratch, digest)
    if checkpoint is None:
        return []
    assert len(checkpoint.metrics) == checkpoint.step, "one line of the log a step"
    engine.load(checkpoint.tensors)
    return checkpoint.metrics


def accumulate(engine: Engine, batch: Sequence[EncodedSample], features: FeatureSource, micro_batch: int) -> Tensor:
    """Run a global batch through the engine in micro batches; return its mean loss an answer token."""
    answer_tokens = count_answer_tokens(batch)
    losses = []
    for micro in micro_batches(batch, micro_batch):
        images = [sample.image for sample in micro if sample.image is not None]
        losses.append(engine.backward(micro, features.features(images) if images else None, answer_tokens))
    return torch.stack(losses).sum()


def metrics_line(
    step: int, loss: float, grad_norm: float, rate: float, answer_tokens: int, recorded: Mapping[str, object]
) -> str:
    """Return the log's line for the step with this index, counted from 1 in the log."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise UserError(
            f"training diverged at step {step + 1}: loss {loss}, gradient norm {grad_norm} at learning rate "
            f"{rate:g}; lower learning_rate"
        )
    line = {
        "step": step + 1,
        "loss": loss,
        "learning_rate": rate,
        "answer_tokens": answer_tokens,
        "grad_norm": grad_norm,
        **recorded,
    }
    return json.dumps(line) + "\n"


def summarise(lines: Sequence[str], seconds: float) -> TrainingResult:
    """Return the result that a complete log tells of."""
    records = [json.loads(line) for line in lines]
    losses = [record["loss"] for record in records]
    return TrainingResult(len(records), losses, sum(record["answer_tokens"] for record in records), seconds)


def step_seed(seed: int, step: int) -> int:
    """Return the seed of one step's random numbers (dropout), from the run's seed and the step's index."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:8], "big") >> 1


@contextmanager
def training_mode(model: MultimodalModel, gradient_checkpointing: bool) -> Iterator[None]:
    """Put the model into training mode, recomputing activations if asked; leave it in evaluation mode."""
    if gradient_checkpointing:
        model.llm.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    try:
        yield
    finally:
        model.eval()
        if gradient_checkpointing:
            model.llm.activation_checkpointing_disable()
