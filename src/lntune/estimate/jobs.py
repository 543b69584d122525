"""What jobs are given on a GPU before anything has run: the micro-batch and ZeRO stage that fit its memory.

    step = choose(job, gpu, limit=execution.micro_batch)
    step.micro_batch, step.zero_stage, predicted(step).peak

Pure Python: the plan asks for every training job before anything is queued. A job that nothing makes fit is refused.
The memory that asking a tuned model takes, unlike training's, has not been checked against a measurement.
"""

import atexit
import sys
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from typing import Any

from lntune.config.study import GpuSettings
from lntune.config.training import EngineName, LoraSettings, Schedule
from lntune.errors import UserError
from lntune.estimate.memory import MemoryAccount, Setup, predict_memory
from lntune.estimate.shapes import LlmShape, VisionShape
from lntune.store.fingerprint import code_fingerprint, read_cached, versions, write_cached
from lntune.store.identity import digest

PROMPT_TOKENS = 120
"""Tokens of text before an answer begins (assumed), unless examples or a long template come before it."""


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


def usable(gpu: GpuSettings) -> float:
    """Bytes of a GPU that tensors may take."""
    return (gpu.memory_gb - gpu.reserve_gb) * 1e9


def choose(job: TrainingJob, gpu: GpuSettings, limit: int) -> Setup:
    """A step with the largest micro-batch up to ``limit`` that fits, at the method's ZeRO stage or the next that does.

    Micro-batches that divide a rank's share of the global batch are preferred: others leave a smaller one at the end
    of every step.

    Raises:
        UserError: not even one sample at a time fits, with all that DeepSpeed can share out.
    """
    stages = range(job.zero_stage, 4) if job.engine == "deepspeed" else (0,)
    for zero_stage in stages:
        for sizes in _micro_batches(job.schedule.global_batch, job.ranks, limit):
            steps = [job.setup(size, zero_stage) for size in sizes]
            # More samples never take less.
            fitting = bisect_right(steps, usable(gpu), key=lambda step: predicted(step).peak)
            if fitting:
                return steps[fitting - 1]
    needed = predicted(job.setup(1, stages[-1])).peak
    sharded = f", ZeRO {stages[-1]}" if job.engine == "deepspeed" else ""
    raise UserError(
        f"{job.label} on {job.ranks} x {gpu.name} {gpu.memory_gb:g} GB: needs {needed / 1e9:.0f} GB a GPU (predicted) "
        f"at micro-batch 1{sharded}, has {usable(gpu) / 1e9:.0f}; {_remedy(job)}"
    )


def _remedy(job: TrainingJob) -> str:
    sharded = job.engine == "deepspeed"
    ways = {
        f"give the stage more GPUs (execution.stages.{job.stage}.gpus)": sharded,
        "choose execution.engine: deepspeed, which shares the work among several GPUs": not sharded,
        "turn gradient_checkpointing on": not job.schedule.gradient_checkpointing,
        "choose precision: bf16-weights": sharded and job.schedule.precision != "bf16-weights",
        "lower max_length": True,
    }
    return ", or ".join(way for way, helps in ways.items() if helps)


def _micro_batches(global_batch: int, ranks: int, limit: int) -> list[list[int]]:
    """Sizes to try, smallest first: those that divide a rank's share, then powers of two."""
    most = min(limit, -(-global_batch // ranks))
    dividing = [size for size in range(1, most + 1) if global_batch % (ranks * size) == 0]
    powers = [1 << power for power in range(most.bit_length())]
    return [sizes for sizes in (dividing, powers) if sizes]


_MOST = 2000
"""More predictions are not cached: then it begins again."""


@cache
def predicted(setup: Setup) -> MemoryAccount:
    """As :func:`lntune.estimate.memory.predict_memory`, cached between processes: a plan for a GPU asks for dozens.

    A prediction follows from the setup and the code of lntune.estimate.memory alone, so it is cached under their hash.
    """
    known, key = _known(), digest(setup.model_dump(mode="json"))
    if key not in known:
        known[key] = predict_memory(setup).model_dump(mode="json")
    return MemoryAccount.model_validate(known[key])


@cache
def _known() -> dict[str, Any]:
    """Setup to account, as this code predicts it; what is added is written when the process ends."""
    key = digest([code_fingerprint("lntune.estimate.memory"), versions(["pydantic"]), sys.version])
    found = read_cached("memory", key)
    known: dict[str, Any] = dict(found) if isinstance(found, dict) and len(found) < _MOST else {}
    before = len(known)
    atexit.register(lambda: write_cached("memory", key, known) if len(known) > before else None)
    return known


# --- asking a tuned model -------------------------------------------------------------------------------------------


def prediction_bytes(llm: LlmShape, vision: VisionShape, new_tokens: int, batch: int, text: int = PROMPT_TOKENS) -> int:
    """Memory of asking: float32 weights, and keys and values of a batch."""
    tokens = vision.tokens + text + new_tokens
    cache = 2 * llm.layers * llm.kv_heads * llm.head_dim * 4 * tokens * batch
    return 4 * (llm.parameters + vision.parameters) + cache


def similarity_bytes(llm: LlmShape, vision: VisionShape, batch: int, text: int = PROMPT_TOKENS) -> int:
    """Memory of comparing layers: float32 weights, a batch's states of all layers, one prompt's twice in float64."""
    state = llm.layers * llm.hidden * (vision.tokens + text)
    return 4 * (llm.parameters + vision.parameters) + 4 * state * batch + 2 * 8 * state


def prediction_batch(
    label: str,
    llm: LlmShape,
    vision: VisionShape,
    new_tokens: int,
    gpu: GpuSettings,
    limit: int,
    text: int = PROMPT_TOKENS,
) -> int:
    """How many questions of ``text`` tokens to ask at a time on one GPU: ``limit``, halved until they fit.

    Raises:
        UserError: not even one question fits next to the weights.
    """
    batch = limit
    while (needed := prediction_bytes(llm, vision, new_tokens, batch, text)) > usable(gpu):
        if batch == 1:
            raise UserError(
                f"{label} on 1 x {gpu.name} {gpu.memory_gb:g} GB: needs {needed / 1e9:.0f} GB (predicted) to ask one "
                f"question in float32, has {usable(gpu) / 1e9:.0f}; name a larger GPU (execution.gpu)"
            )
        batch //= 2
    return batch
