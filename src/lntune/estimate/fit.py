"""Which micro-batch and ZeRO stage make a training job fit its card; a job that nothing makes fit is refused.

    choice = choose(job, gpu, limit=execution.micro_batch)
    choice.micro_batch, choice.zero_stage, choice.account.peak

Pure Python: the plan asks for every training job before anything is queued.

Memory predictions, kept between processes: a plan for a GPU asks for dozens, and each runs a training step dry.

A prediction follows from the setup and the code of lntune.estimate.memory alone, so it is kept under the hash of the
two (lntune.store.fingerprint).
"""

import atexit
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from lntune.config.study import GpuSettings
from lntune.config.training import EngineName, LoraSettings, Schedule
from lntune.errors import UserError
from lntune.estimate.memory import MemoryAccount, Setup, predict_memory, prediction_bytes
from lntune.estimate.shapes import LlmShape, VisionShape
from lntune.store.fingerprint import code_fingerprint, read_cached, versions, write_cached
from lntune.store.identity import digest

Predict = Callable[[Setup], MemoryAccount]


@dataclass(frozen=True)
class TrainingJob:
    """What decides the memory of one training job; ``label`` names it in an error, ``stage`` its key in the scale."""

    label: str
    stage: str
    llm: LlmShape
    vision: VisionShape
    method: str
    lora: LoraSettings | None
    schedule: Schedule
    engine: EngineName
    ranks: int
    zero_stage: int

    def setup(self, micro_batch: int, zero_stage: int) -> Setup:
        """Its step at a micro-batch and ZeRO stage: every sample as long as the schedule lets it be, most of it answer.

        So no batch that the data may hold takes more.
        """
        return Setup(
            llm=self.llm,
            vision=self.vision,
            method=self.method,
            lora=self.lora,
            precision=self.schedule.precision,
            checkpointing=self.schedule.gradient_checkpointing,
            engine=self.engine,
            zero_stage=zero_stage,
            ranks=self.ranks,
            micro_batch=micro_batch,
            length=self.schedule.max_length,
            answer_tokens=max(self.schedule.max_length - self.vision.tokens - 1, 1),
            accumulation=self.schedule.global_batch > self.ranks * micro_batch,
        )


@dataclass(frozen=True)
class Choice:
    """How a job is carried out, and what it is predicted to take at its peak on each GPU."""

    ranks: int
    micro_batch: int
    zero_stage: int
    account: MemoryAccount


def usable(gpu: GpuSettings) -> float:
    """Bytes of a GPU that tensors may take."""
    return (gpu.memory_gb - gpu.reserve_gb) * 1e9


def choose(job: TrainingJob, gpu: GpuSettings, limit: int, predict: Predict = predict_memory) -> Choice:
    """The largest micro-batch up to ``limit`` that fits, at the method's ZeRO stage, or a higher one if none does.

    Micro-batches that divide a rank's share of the global batch are preferred: others leave a smaller one at the end
    of every step. ``predict`` is :func:`predict_memory`, or what remembers its answers.

    Raises:
        UserError: not even one sample at a time fits, with all that DeepSpeed can share out.
    """
    stages = range(job.zero_stage, 4) if job.engine == "deepspeed" else (0,)
    for zero_stage in stages:
        for sizes in _micro_batches(job.schedule.global_batch, job.ranks, limit):
            found = _largest_that_fits(job, zero_stage, sizes, usable(gpu), predict)
            if found is not None:
                return found
    setup = job.setup(1, stages[-1])
    needed = predict(setup).peak
    sharded = f", ZeRO {stages[-1]}" if job.engine == "deepspeed" else ""
    raise UserError(
        f"{job.label} on {job.ranks} x {gpu.name} {gpu.memory_gb:g} GB: needs {needed / 1e9:.0f} GB a GPU (predicted) "
        f"at micro-batch 1{sharded}, has {usable(gpu) / 1e9:.0f}; {_remedy(job)}"
    )


def _remedy(job: TrainingJob) -> str:
    ways = []
    if job.engine == "deepspeed":
        ways.append(f"give the stage more GPUs (execution.stages.{job.stage}.gpus)")
    else:
        ways.append("choose execution.engine: deepspeed, which shares the work among several GPUs")
    if not job.schedule.gradient_checkpointing:
        ways.append("turn gradient_checkpointing on")
    if job.schedule.precision != "bf16-weights" and job.engine == "deepspeed":
        ways.append("choose precision: bf16-weights")
    ways.append("lower max_length")
    return ", or ".join(ways)


def _micro_batches(global_batch: int, ranks: int, limit: int) -> list[list[int]]:
    """Sizes to try, smallest first: those that divide a rank's share, then powers of two."""
    most = min(limit, -(-global_batch // ranks))
    dividing = [size for size in range(1, most + 1) if global_batch % (ranks * size) == 0]
    powers = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    return [sizes for sizes in (dividing, powers) if sizes]


def _largest_that_fits(
    job: TrainingJob, zero_stage: int, sizes: list[int], limit: float, predict: Predict
) -> Choice | None:
    """By bisection: more samples never take less."""
    found = None
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        account = predict(job.setup(sizes[middle], zero_stage))
        if account.peak <= limit:
            found = Choice(job.ranks, sizes[middle], zero_stage, account)
            low = middle + 1
        else:
            high = middle
    return found


def prediction_batch(
    label: str, llm: LlmShape, vision: VisionShape, new_tokens: int, gpu: GpuSettings, limit: int
) -> int:
    """How many questions to ask at a time on one GPU: ``limit``, halved until they fit.

    Raises:
        UserError: not even one question fits next to the weights.
    """
    batch = limit
    while prediction_bytes(llm, vision, new_tokens, batch) > usable(gpu):
        if batch == 1:
            needed = prediction_bytes(llm, vision, new_tokens, 1)
            raise UserError(
                f"{label} on 1 x {gpu.name} {gpu.memory_gb:g} GB: needs {needed / 1e9:.0f} GB (predicted) to ask one "
                f"question in float32, has {usable(gpu) / 1e9:.0f}; name a larger GPU (execution.gpu)"
            )
        batch = max(batch // 2, 1)
    return batch


_MOST = 2000
"""More are not kept: then it begins again."""


@cache
def predicted(setup: Setup) -> MemoryAccount:
    """As :func:`lntune.estimate.memory.predict_memory`."""
    known, key = _known(), digest(setup.model_dump(mode="json"))
    if key in known:
        return MemoryAccount.model_validate(known[key])
    account = predict_memory(setup)
    known[key] = account.model_dump(mode="json")
    return account


@cache
def _known() -> dict[str, Any]:
    """Setup to account, as this code predicts it; what is added is written when the process ends."""
    made_by = [code_fingerprint("lntune.estimate.memory"), versions(["pydantic"]), sys.version]
    key = digest(made_by)
    found = read_cached("memory", key)
    known: dict[str, Any] = dict(found) if isinstance(found, dict) and len(found) < _MOST else {}
    before = len(known)
    atexit.register(lambda: write_cached("memory", key, known) if len(known) > before else None)
    return known
