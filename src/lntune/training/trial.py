"""Measures what training takes here, with the real engine: memory, speed, checkpoints, and whether it repeats itself.

    trial = Trial(model, features, images, settings, execution, text, answers, highest_rate, scratch)
    trial.first(notes)      # the longest batches, typical ones, a checkpoint, and more steps
    trial.again(notes)      # in new processes: the same steps from that checkpoint, twice; the highest learning rate

Samples are made up. On several ranks all call it alike, and the first writes the notes; a failure is the caller's.
"""

import json
import math
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lntune.config.training import Execution, TrainingSettings
from lntune.files import write_whole
from lntune.model.device import device, numerics
from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample
from lntune.model.features import EncodedImages
from lntune.model.multimodal import MultimodalModel
from lntune.training import ranks
from lntune.training.checkpoint import checkpoint_folders, load_checkpoint, run_digest, save_checkpoint
from lntune.training.engine import Engine, trainable
from lntune.training.loop import accumulate, make_engine, step_seed, training_mode

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
        """Measure one part into the dictionary given; it counts once the block ends without an error."""
        self._write(name)
        found: Found = {}
        yield found
        self.parts[name] = found
        self._write("")

    def _write(self, doing: str) -> None:
        if ranks.rank() == 0:
            write_whole(self.path, json.dumps({"parts": self.parts, "doing": doing}))


@dataclass(frozen=True)
class Step:
    """One optimiser step: the loss, the gradients' norm, and the seconds that it took."""

    loss: float
    norm: float
    seconds: float

    @property
    def finite(self) -> bool:
        """Whether loss and norm are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


@dataclass(frozen=True)
class Trial:
    """A model of which a method's weights train, and how it is to be trained, at ``settings.learning_rate``.

    ``features`` are those of ``images`` images. A typical sample has ``text`` tokens beside the image's, of which
    ``answers`` bear a loss; the longest has ``settings.max_length`` positions, all text being answer.
    """

    model: MultimodalModel
    features: EncodedImages
    images: int
    settings: TrainingSettings
    execution: Execution
    text: int
    answers: int
    highest_rate: float
    scratch: Path
    seed: int = 0

    def first(self, notes: Notes) -> None:
        """Measure the longest batches, typical ones, images, a checkpoint, and the steps after it."""
        with self._engine(notes) as (engine, digest):
            with notes.part("longest") as found:
                restart_peak()
                done = self.steps(engine, 0, LONGEST, self.settings.learning_rate)
                found |= {"positions": self.positions(0), "seconds": done[-1].seconds, "peak_bytes": peak_bytes()}
            with notes.part("typical") as found:
                with attention_kernels() as kernels:
                    done += self.steps(engine, LONGEST, 1, self.settings.learning_rate)  # the first is not timed
                typical = self.steps(engine, LONGEST + 1, TYPICAL - 1, self.settings.learning_rate)
                done += typical
                seconds, positions = median(one.seconds for one in typical), self.positions(LONGEST)
                found |= {
                    "positions": positions,
                    "seconds": seconds,
                    "tokens_per_second": self.settings.global_batch * positions / seconds,
                    "peak_bytes": peak_bytes(),
                    "attention": sorted(kernels),
                }
            with notes.part("images") as found:
                each = image_seconds(self.features, self.images, self.execution.workers)
                needed = -(-self.settings.global_batch // ranks.ranks())
                found |= {"seconds_each": each, "share_of_step": needed * each / seconds}
            with notes.part("checkpoint") as found:
                lines = [json.dumps({"step": number, "loss": one.loss}) + "\n" for number, one in enumerate(done, 1)]
                started = time.perf_counter()
                save_checkpoint(self.scratch, digest, CHECKPOINT, lines, engine.state())
                found["seconds"] = time.perf_counter() - started
                found["bytes"] = sum(path.stat().st_size for path in checkpoint_folders(self.scratch)[0].iterdir())
            with notes.part("more") as found:
                found["steps"] = self._after_checkpoint(engine)

    def again(self, notes: Notes) -> None:
        """From the checkpoint of :meth:`first`, the steps after it, twice; then some at the highest learning rate.

        The second time shows whether two runs of the same steps are equal, the first whether a resumed one is.
        """
        with self._engine(notes) as (engine, digest):

            def resume() -> None:
                found = load_checkpoint(self.scratch, digest, trainable(self.model).keys())
                assert found is not None, "the first attempt has left a checkpoint"
                engine.load(found[1])

            for name in ("resume", "repeat"):
                with notes.part(name) as found:
                    started = time.perf_counter()
                    resume()
                    found["seconds"] = time.perf_counter() - started
                    found["steps"] = self._after_checkpoint(engine)
            with notes.part("highest rate") as found:
                resume()
                steps = self.steps(engine, CHECKPOINT, FASTEST, self.highest_rate)
                found |= {"rate": self.highest_rate, "diverged_at": None if steps[-1].finite else len(steps)}
                found["steps"] = len(steps)

    def positions(self, step: int) -> int:
        """Positions of each sample of a step, counted from 0."""
        image = self.model.vision.tokens
        return self.settings.max_length if step < LONGEST else min(1 + image + self.text, self.settings.max_length)

    def batch(self, step: int) -> list[EncodedSample]:
        """The global batch of a step."""
        number, text = self.settings.global_batch, self.positions(step) - self.model.vision.tokens - 1
        answers = text if step < LONGEST else min(self.answers, text)
        words = min(self.model.llm.config.vocab_size - 3, 1000)
        ids = [1, IMAGE_ID, *(3 + (step + 7 * place) % words for place in range(text))]
        labels = [IGNORE] * (len(ids) - answers) + ids[len(ids) - answers :]
        return [EncodedSample(ids, labels, (step * number + one) % self.images) for one in range(number)]

    def steps(self, engine: Engine, first: int, number: int, rate: float) -> list[Step]:
        """Do optimiser steps, as :func:`lntune.training.loop.do_step` does them; the first that is not finite ends."""
        done: list[Step] = []
        for step in range(first, first + number):
            started = time.perf_counter()
            torch.manual_seed(step_seed(self.seed, step, ranks.rank()))
            batch, following = self.batch(step), self.batch(step + 1)
            loss = ranks.total(accumulate(engine, batch, self.features, self.execution.micro_batch, following))
            loss_value, norm = torch.stack([loss, engine.step(rate)]).tolist()
            done.append(Step(loss_value, norm, time.perf_counter() - started))
            if not done[-1].finite:
                break
        return done

    def _after_checkpoint(self, engine: Engine) -> list[list[float]]:
        done = self.steps(engine, CHECKPOINT, MORE, self.settings.learning_rate)
        return [[one.loss, one.norm] for one in done]

    @contextmanager
    def _engine(self, notes: Notes) -> Iterator[tuple[Engine, str]]:
        """The engine, started as :func:`lntune.training.loop.train` starts it, and the run's digest."""
        settings = self.settings
        with (
            numerics(self.execution.threads, settings.precision),
            training_mode(self.model, settings.gradient_checkpointing),
        ):
            with notes.part("start") as found:
                started = time.perf_counter()
                digest = ranks.from_first(lambda: run_digest(self.model, self.batch(0), settings, self.seed))
                ranks.check_same(trainable(self.model).items(), "at the start of training")
                engine = make_engine(self.model, settings, self.execution)
                found["seconds"] = time.perf_counter() - started
            yield engine, digest


def image_seconds(features: EncodedImages, images: int, workers: int) -> float:
    """Seconds an image, to read and decode ``images`` of them in ``workers`` threads, without the encoder's pass."""
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(features.load, range(images)))
    return (time.perf_counter() - started) / images


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
    """The GPU that this process computes on and what drives it; without one, what else there is."""
    found: Found = {"gpu": None, "torch": torch.__version__, "threads": torch.get_num_threads()}
    if not torch.cuda.is_available():
        return found
    card = torch.cuda.get_device_properties(device())
    driver = ""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split("\n")[0]
    return found | {
        "gpu": card.name,
        "memory_bytes": card.total_memory,
        "driver": driver,
        "cuda": torch.version.cuda,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),  # type: ignore[no-untyped-call]
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }


def equal_steps(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    """Whether losses and norms are the same to the bit; what is not a number equals nothing."""
    return list(map(list, one)) == list(map(list, other))
