"""Measures what training takes here, with the real engine: memory, speed, checkpoints, and whether it repeats itself.

    trial = Trial(model, features, settings, execution, text, answers, highest_rate, scratch)
    trial.first(notes)      # the longest batches, typical ones, a checkpoint, and more steps
    trial.again(notes)      # in new processes: the same steps from that checkpoint, twice; the highest learning rate

Samples are made up. On several ranks all call it alike, and the first writes the notes; a failure is the caller's.
"""

import json
import math
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lntune.config.training import Execution, TrainingSettings
from lntune.files import write_whole
from lntune.model.device import numerics
from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample
from lntune.model.features import EncodedImages
from lntune.model.multimodal import MultimodalModel
from lntune.training import ranks
from lntune.training.checkpoint import checkpoint_folders, load_checkpoint, save_checkpoint
from lntune.training.engine import Engine, trainable
from lntune.training.gpus import driver_version
from lntune.training.loop import batch_loss, start_engine, training_mode

LONGEST, TYPICAL, MORE, FASTEST = 2, 4, 2, 4
"""Steps: with the longest samples, with typical ones, after the checkpoint, at the highest learning rate."""

CHECKPOINT = LONGEST + TYPICAL
"""The step after which the checkpoint is written."""

_KERNELS = {0: "math", 1: "flash", 2: "memory-efficient", 3: "cuDNN"}
"""SDPA's kernels by torch's number (torch.nn.attention.SDPBackend)."""

Found = dict[str, Any]


class Notes:
    """What has been measured, part by part, in a file that outlives the process; ``doing`` is the part under way."""

    def __init__(self, path: Path) -> None:
        self.path, self.parts = path, dict[str, Found]()

    @contextmanager
    def part(self, name: str) -> Iterator[Found]:
        """Measure one part into the dictionary given, with ``seconds`` unless set; it counts if no error ends it."""
        self._write(name)
        found, started = Found(), time.perf_counter()
        yield found
        self.parts[name] = {"seconds": time.perf_counter() - started} | found
        self._write("")

    def _write(self, doing: str) -> None:
        if ranks.rank() == 0:
            write_whole(self.path, json.dumps({"parts": self.parts, "doing": doing}))


class Step(NamedTuple):
    """One optimiser step: the loss, the gradients' norm, whether both are numbers, and the seconds that it took."""

    loss: float
    norm: float
    finite: bool
    seconds: float


@dataclass(frozen=True)
class Trial:
    """A model of which a method's weights train, and how it is to be trained, at ``settings.learning_rate``.

    A typical sample has ``text`` tokens beside the image's, of which ``answers`` bear a loss; the longest has
    ``settings.max_length`` positions, all text being answer.
    """

    model: MultimodalModel
    features: EncodedImages
    settings: TrainingSettings
    execution: Execution
    text: int
    answers: int
    highest_rate: float
    scratch: Path
    seed: int = 0

    def first(self, notes: Notes) -> None:
        """Measure the longest batches, typical ones, images, a checkpoint, and the steps after it."""
        usual = self.settings.learning_rate
        with self._engine(notes) as (engine, digest):
            with notes.part("longest") as found:
                restart_peak()
                done = self.steps(engine, 0, LONGEST, usual)
                found |= {"positions": self.positions(0), "seconds": done[-1].seconds, "peak_bytes": peak_bytes()}
            with notes.part("typical") as found, attention_kernels() as kernels:
                done += self.steps(engine, LONGEST, TYPICAL, usual)
                seconds = median(step.seconds for step in done[LONGEST + 1 :])
                tokens = self.settings.global_batch * self.positions(LONGEST)
                found |= {"positions": self.positions(LONGEST), "seconds": seconds, "peak_bytes": peak_bytes()}
                found |= {"tokens_per_second": tokens / seconds, "attention": sorted(kernels)}
            with notes.part("images") as found:
                started = time.perf_counter()
                with ThreadPoolExecutor(self.execution.workers) as pool:  # read and decoded, not encoded
                    list(pool.map(self.features.load, range(self.features.count)))
                each = (time.perf_counter() - started) / self.features.count
                needed = -(-self.settings.global_batch // ranks.ranks())
                found |= {"seconds_each": each, "share_of_step": needed * each / seconds}
            with notes.part("checkpoint") as found:
                lines = [json.dumps(step) + "\n" for step in done]
                save_checkpoint(self.scratch, digest, CHECKPOINT, lines, engine.state())
                found["bytes"] = sum(path.stat().st_size for path in checkpoint_folders(self.scratch)[0].iterdir())
            with notes.part("more") as found:
                found["steps"] = [[step.loss, step.norm] for step in self.steps(engine, CHECKPOINT, MORE, usual)]

    def again(self, notes: Notes) -> None:
        """From the checkpoint of :meth:`first`, the steps after it, twice; then some at the highest learning rate."""
        rate, highest = self.settings.learning_rate, self.highest_rate
        with self._engine(notes) as (engine, digest):
            for name, steps, at in (("resume", MORE, rate), ("repeat", MORE, rate), ("highest rate", FASTEST, highest)):
                with notes.part(name) as found:
                    checkpoint = load_checkpoint(self.scratch, digest, trainable(self.model).keys())
                    assert checkpoint is not None, "the first attempt has left a checkpoint"
                    engine.load(checkpoint[1])
                    done = self.steps(engine, CHECKPOINT, steps, at)
                    found |= {"rate": at, "diverged_at": None if done[-1].finite else len(done)}
                    found["steps"] = [[step.loss, step.norm] for step in done if step.finite]

    def positions(self, step: int) -> int:
        """Positions of each sample of a step, counted from 0."""
        usual = min(1 + self.model.vision.tokens + self.text, self.settings.max_length)
        return self.settings.max_length if step < LONGEST else usual

    def batch(self, step: int) -> list[EncodedSample]:
        """The global batch of a step."""
        number, text = self.settings.global_batch, self.positions(step) - self.model.vision.tokens - 1
        answers = text if step < LONGEST else min(self.answers, text)
        words = min(self.model.llm.config.vocab_size - 3, 1000)
        ids = [1, IMAGE_ID, *(3 + (step + 7 * place) % words for place in range(text))]
        labels = [IGNORE] * (len(ids) - answers) + ids[len(ids) - answers :]
        return [EncodedSample(ids, labels, (step * number + one) % self.features.count) for one in range(number)]

    def steps(self, engine: Engine, first: int, number: int, rate: float) -> list[Step]:
        """Do optimiser steps as :mod:`lntune.training.loop` does, up to the first that is not finite."""
        done: list[Step] = []
        for step in range(first, first + number):
            started = time.perf_counter()
            batch, following = self.batch(step), self.batch(step + 1)
            loss = batch_loss(engine, self.seed, step, batch, self.features, self.execution, following)
            value, norm = torch.stack([loss, engine.step(rate)]).tolist()
            finite = math.isfinite(value) and math.isfinite(norm)
            done.append(Step(value, norm, finite, time.perf_counter() - started))
            if not done[-1].finite:
                break
        return done

    @contextmanager
    def _engine(self, notes: Notes) -> Iterator[tuple[Engine, str]]:
        """The engine and the run's digest, as :func:`lntune.training.loop.train` has them."""
        model, settings, given = self.model, self.settings, self.execution
        recompute = given.recompute_above is not None
        with numerics(given.threads, settings.precision), training_mode(model, recompute=recompute):
            with notes.part("start"):
                started = start_engine(model, self.batch(0), settings, given, self.seed)
            yield started


@contextmanager
def attention_kernels() -> Iterator[set[str]]:
    """The kernels that torch chooses for causal attention (SDPA) during the block; on the CPU "cpu"."""
    found: set[str] = set()
    attend = F.scaled_dot_product_attention

    def observed(query: Tensor, key: Tensor, value: Tensor, *others: Any, **named: Any) -> Tensor:
        if named.get("is_causal"):
            kernel = torch._fused_sdp_choice(query, key, value, *others, **named)
            found.add(_KERNELS.get(kernel, str(kernel)) if query.is_cuda else "cpu")
        return attend(query, key, value, *others, **named)

    F.scaled_dot_product_attention = observed  # type: ignore[assignment]
    try:
        yield found
    finally:
        F.scaled_dot_product_attention = attend


def restart_peak() -> None:
    """Begin to look for the peak of memory anew; on the CPU, where a process's peak stays, nothing happens."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_bytes() -> int:
    """The most memory that any rank's tensors took on its GPU; without one, the largest process's peak."""
    if torch.cuda.is_available():
        return max(ranks.of_all(torch.cuda.max_memory_allocated()))
    return max(ranks.of_all(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def machine() -> Found:
    """The GPU that this process computes on and what drives it; without one, None and torch's version."""
    found: Found = {"gpu": None, "torch": torch.__version__}
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "driver": driver_version(), "cuda": torch.version.cuda}
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    return found
