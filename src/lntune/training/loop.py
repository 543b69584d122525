"""The one training loop, for connector and finetuning alike: what trains is what requires gradients.

Every step draws its own random numbers from the seed and its index, and everything else follows from the settings, so a
run that was killed and starts again from its last checkpoint ends with the bytes of an undisturbed one.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from lntune.config.training import Execution, Passes, TrainingSettings
from lntune.errors import UserError
from lntune.model.device import numerics
from lntune.model.encode import EncodedSample
from lntune.model.features import FeatureSource
from lntune.model.multimodal import MultimodalModel, count_answer_tokens, last_block_at_answers, row_length
from lntune.progress import Progress, track
from lntune.training import ranks
from lntune.training.checkpoint import load_checkpoint, run_digest, save_checkpoint
from lntune.training.endings import Diverged, Divergence
from lntune.training.engine import Engine, PlainEngine, trainable
from lntune.training.interruption import Interrupted, stop_requests
from lntune.training.schedule import learning_rate, rank_passes, step_batches, steps_until, total_steps

# Called with the step's index and the whole gradients by name, before clipping and update; what it returns joins the
# step's line of the log. Every rank calls it, and all must ask for the same gradients in the same order.
Recorder = Callable[[int, Mapping[str, Tensor]], Mapping[str, object]]


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: the loss of each optimiser step, and how many steps earlier attempts, or rounds, had done.

    ``weights`` is what trained, by name, in whole; it is empty on other ranks than the first.
    """

    losses: list[float]
    resumed_at: int
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Run:
    """What each step of a training run needs to know; it ends after ``last`` of the ``total`` steps."""

    samples: Sequence[EncodedSample]
    features: FeatureSource
    settings: TrainingSettings
    execution: Execution
    seed: int
    scratch: Path
    digest: str
    total: int
    last: int
    label: str
    recorder: Recorder | None


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
    until: float | None = None,
) -> TrainingResult:
    """Train the parameters of ``model`` that require gradients: in place with the plain engine; the result has them.

    ``log`` gets one JSON line a step: step, loss (mean cross entropy over the step's answer tokens), learning_rate,
    answer_tokens, grad_norm (before clipping) and what ``recorder`` adds; no times, so that equal runs write equal
    bytes. What ``scratch`` holds of this very run is resumed from. It ends once ``until`` a share of the steps is done,
    with a checkpoint in ``scratch`` from which another call goes on; the schedule is that of the whole run. With the
    engine ``deepspeed`` all ranks call this alike, and the first writes. Raises Diverged at the first step whose loss
    or gradient norm is not finite, which gets no line, and Interrupted when a signal asks to stop; what was done is
    then saved.
    """
    total, last = total_steps(len(samples), settings), steps_until(len(samples), settings, until)
    first = ranks.rank() == 0
    with (
        numerics(execution.threads, settings.precision),
        training_mode(model, recompute=execution.recompute_above is not None),
        stop_requests() as asked,
    ):
        engine, digest = start_engine(model, samples, settings, execution, seed)
        lines: list[str] = []
        if checkpoint := load_checkpoint(scratch, digest, trainable(model).keys()):
            lines, tensors = checkpoint
            engine.load(tensors)
        done = len(lines)
        run = Run(samples, features, settings, execution, seed, scratch, digest, total, last, label, recorder)
        if first:
            log.write_text("".join(lines), encoding="utf-8")
        with (
            open(log if first else os.devnull, "a", encoding="utf-8", buffering=1) as file,
            track(last, label, "steps", done=done, stream=None if first else file) as progress,
        ):
            go_on(run, engine, lines, file, progress, asked)
        if until is not None:
            save_checkpoint(scratch, digest, last, lines, engine.state())
        return TrainingResult([json.loads(line)["loss"] for line in lines], done, engine.weights())


def start_engine(
    model: MultimodalModel,
    samples: Sequence[EncodedSample],
    settings: TrainingSettings,
    execution: Execution,
    seed: int,
) -> tuple[Engine, str]:
    """Return the engine that ``execution`` names, and the run's digest; UserError if ranks hold different weights."""
    digest = ranks.from_first(lambda: run_digest(model, samples, settings, seed))
    ranks.check_same(trainable(model).items(), "at the start of training")
    return make_engine(model, settings, execution), digest


def make_engine(model: MultimodalModel, settings: TrainingSettings, execution: Execution) -> Engine:
    """Return the engine that ``execution`` names; UserError for what it cannot do."""
    if execution.engine == "deepspeed":
        from lntune.training.deepspeed_engine import DeepSpeedEngine

        assert ranks.ranks() == execution.ranks, "the ranks are joined before training"
        return DeepSpeedEngine(model, settings, execution)
    if execution.ranks > 1:
        raise UserError(f"execution.engine: plain is one process, not {execution.ranks} ranks; choose deepspeed")
    if settings.precision == "bf16-weights":
        raise UserError("execution.engine: precision bf16-weights needs deepspeed; choose that, or bf16")
    return PlainEngine(model, settings)


def go_on(
    run: Run, engine: Engine, lines: list[str], file: TextIO, progress: Progress, asked: Callable[[], bool]
) -> None:
    """Do the steps that ``lines`` does not hold yet, adding to it; Interrupted once ``asked`` is true."""
    saved, every, minutes = len(lines), run.execution.checkpoint_steps, run.execution.checkpoint_minutes
    written = time.monotonic()
    lengths = [len(sample.input_ids) for sample in run.samples]
    indices = step_batches(lengths, run.settings.global_batch, run.seed, saved, run.last)
    batches = ([run.samples[index] for index in batch] for batch in indices)
    for step, (batch, following) in enumerate(pairwise(chain(batches, [[]])), start=saved):
        late = ranks.rank() == 0 and minutes is not None and time.monotonic() - written >= 60 * minutes
        stop, due = ranks.anywhere(asked(), late)
        if step > saved and (stop or due or (every and step % every == 0)):
            save_checkpoint(run.scratch, run.digest, step, lines, engine.state())
            saved, written = step, time.monotonic()
        if stop:
            raise Interrupted(run.label, step, run.total)
        lines.append(do_step(run, engine, step, batch, following))
        file.write(lines[-1])
        progress.advance(1, loss=json.loads(lines[-1])["loss"])


def do_step(
    run: Run, engine: Engine, step: int, batch: Sequence[EncodedSample], following: Sequence[EncodedSample] = ()
) -> str:
    """Do one optimiser step, counted from 0; return its line of the log. Diverged, on every rank, if not finite."""
    loss = batch_loss(engine, run.seed, step, batch, run.features, run.execution, following)
    recorded = run.recorder(step, engine.gradients()) if run.recorder else {}
    rate = learning_rate(step, run.total, run.settings)
    loss_value, norm = torch.stack([loss, engine.step(rate)]).tolist()
    if not (math.isfinite(loss_value) and math.isfinite(norm)):
        peak, found = run.settings.learning_rate, {"loss": str(loss_value), "grad_norm": str(norm)}
        raise Diverged(run.label, Divergence(learning_rate=peak, step=step + 1, steps=run.total, **found))
    line = {"step": step + 1, "loss": loss_value, "learning_rate": rate, "answer_tokens": count_answer_tokens(batch)}
    return json.dumps({**line, "grad_norm": norm, **recorded}) + "\n"


def batch_loss(
    engine: Engine,
    seed: int,
    step: int,
    batch: Sequence[EncodedSample],
    features: FeatureSource,
    given: Passes,
    following: Sequence[EncodedSample],
) -> Tensor:
    """Run a global batch through the engine, with the random numbers of that step; return its mean loss."""
    torch.manual_seed(step_seed(seed, step, ranks.rank()))
    return ranks.total(accumulate(engine, batch, features, given, following))


def accumulate(
    engine: Engine,
    batch: Sequence[EncodedSample],
    features: FeatureSource,
    given: Passes,
    following: Sequence[EncodedSample] = (),
) -> Tensor:
    """Run this rank's share of a global batch through the engine, pass by pass; return its part of the loss.

    The parts of all ranks add up to the batch's mean loss an answer token. While the engine works on a pass, the images
    of the next one are loaded, after the last those that ``following``, the next global batch, begins with.
    """
    answer_tokens, positions = count_answer_tokens(batch), partial(row_length, image_tokens=engine.model.vision.tokens)
    share, afterwards = (rank_passes(one, given, positions, ranks.rank(), ranks.ranks()) for one in (batch, following))
    losses = []
    upcoming = [*(one.samples for one in share[1:]), afterwards[0].samples if afterwards else ()]
    for number, (one, ahead) in enumerate(zip(share, upcoming, strict=True), start=1):
        images = images_of(one.samples)
        found = features.features(images) if images else None
        features.prefetch(images_of(ahead))
        if given.recompute_above is not None:
            set_recomputation(engine.model, one.recompute)
        losses.append(engine.backward(one.samples, found, answer_tokens, last=number == len(share)))
    return torch.stack(losses).sum()


def images_of(samples: Sequence[EncodedSample]) -> list[int]:
    """Return the indices of the samples' images."""
    return [sample.image for sample in samples if sample.image is not None]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of one step's random numbers (dropout) on one rank."""
    text = f"{seed}:{step}:{rank}" if rank else f"{seed}:{step}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def set_recomputation(model: MultimodalModel, recompute: bool) -> None:
    """Recompute activations in the next passes or not, of a model in the :func:`training_mode` that can."""
    for module in model.llm.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = recompute


@contextmanager
def training_mode(model: MultimodalModel, *, recompute: bool) -> Iterator[None]:
    """Put the model into training mode, recomputing activations if asked; leave it in evaluation mode."""
    if recompute:
        model.llm.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    try:
        with last_block_at_answers(model):
            yield
    finally:
        model.eval()
        if recompute:
            model.llm.activation_checkpointing_disable()
