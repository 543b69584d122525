"""What jobs are given on a GPU before anything has run: the passes and the ZeRO stage that fit its memory.

    fit = choose(job, gpu, limit=execution.micro_batch)
    fit.passes, fit.zero_stage, largest(job, *fit).account.peak

Pure Python: the plan asks for every training job before anything is queued. A job that nothing makes fit is refused.
The memory that asking a tuned model takes, unlike training's, has not been checked against a measurement.
"""

import atexit
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from lntune.config.llm_shape import LlmShape
from lntune.config.study import GpuSettings
from lntune.config.training import AnswerPrecision, ConnectorKind, EngineName, LoraSettings, Passes, Schedule
from lntune.errors import UserError
from lntune.estimate.memory import MemoryAccount, Setup, predict_memory
from lntune.estimate.shapes import VisionShape
from lntune.store.fingerprint import code_fingerprint, read_cached, versions, write_cached
from lntune.store.identity import digest

PROMPT_TOKENS = 120
"""Tokens of text before an answer begins (assumed), unless examples or a long template come before it."""


@dataclass(frozen=True)
class TrainingJob:
    """What decides the memory of one training job; ``label`` names it in an error, ``stage`` its key in the scale.

    ``recompute`` says that its activations are recomputed in all passes or in none; None: where memory needs it.
    """

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
    recompute: bool | None = None
    connector: ConnectorKind = "linear"

    def setup(self, positions: int, zero_stage: int, *, recompute: bool) -> Setup:
        """Its step with so many positions in a pass: samples as long as they may be, most of them answer.

        So no pass that the data may fill takes more.
        """
        samples = -(-positions // self.schedule.max_length)
        length = positions // samples
        return Setup(
            llm=self.llm,
            vision=self.vision,
            method=self.method,
            lora=self.lora,
            connector=self.connector,
            precision=self.schedule.precision,
            checkpointing=recompute,
            engine=self.engine,
            zero_stage=zero_stage,
            ranks=self.ranks,
            micro_batch=samples,
            length=length,
            answer_tokens=max(length - self.vision.tokens - 1, 1),
            accumulation=self.schedule.global_batch > self.ranks * samples or length < self.schedule.max_length,
        )


class Fit(NamedTuple):
    """Passes and a ZeRO stage at which a job fits."""

    passes: Passes
    zero_stage: int


class Step(NamedTuple):
    """A training step and its predicted memory."""

    setup: Setup
    account: MemoryAccount


def largest(job: TrainingJob, passes: Passes, zero_stage: int) -> Step:
    """Return the step that takes the most memory among those that these passes allow for."""
    longest, above = job.schedule.max_length, passes.recompute_above
    most = passes.positions or passes.micro_batch * longest
    kept = max(most, longest) if above is None else min(most, above)
    setups = [job.setup(kept, zero_stage, recompute=False)] if kept else []
    if above is not None:
        setups.append(job.setup(max(most, longest), zero_stage, recompute=True))
    return max((Step(setup, predicted(setup)) for setup in setups), key=lambda step: step.account.peak)


def usable(gpu: GpuSettings) -> float:
    """Bytes of a GPU that tensors may take."""
    return (gpu.memory_gb - gpu.reserve_gb) * 1e9


_STEPS = 8
"""Positions of a pass are told apart in this part of the longest sample."""


def choose(job: TrainingJob, gpu: GpuSettings, limit: int) -> Fit:
    """The largest passes that fit, of ``limit`` samples at most, at the method's ZeRO stage or the next that does.

    Passes keep their activations where a sample with as much text as image has room, which saves a quarter to a third
    of a step's operations; a longer sample then has a pass of its own, which recomputes them. UserError if not even the
    longest sample by itself fits, with all that DeepSpeed can share out.
    """
    longest = job.schedule.max_length
    most = min(limit, -(-job.schedule.global_batch // job.ranks)) * longest
    sizes = range(max(longest // _STEPS, 1), most + 1, max(longest // _STEPS, 1))
    stages = range(job.zero_stage, 4) if job.engine == "deepspeed" else (0,)

    def fitting(zero_stage: int, recompute: bool) -> int:
        """The most positions of a pass that fit; more never take less, and memory is nearly a line in them."""
        if job.recompute not in (None, recompute):
            return 0

        def over(place: int) -> float:
            """Bytes that are missing."""
            return predicted(job.setup(sizes[place], zero_stage, recompute=recompute)).peak - usable(gpu)

        low, high = 0, len(sizes) - 1
        below, above = over(low), over(high)
        if above <= 0 or below > 0:
            return sizes[high] if above <= 0 else 0
        while high - low > 1:
            guess = low + round((high - low) * below / (below - above))
            guess = min(max(guess, low + 1), high - 1)
            if (found := over(guess)) > 0:
                high, above = guess, found
            else:
                low, below = guess, found
        return sizes[low]

    for zero_stage in stages:
        kept = fitting(zero_stage, False)
        if kept >= longest:
            return Fit(Passes(micro_batch=limit, positions=kept), zero_stage)
        if (recomputed := fitting(zero_stage, True)) >= longest:
            positions = kept if kept >= 2 * job.vision.tokens else recomputed
            return Fit(Passes(micro_batch=limit, positions=positions, recompute_above=kept), zero_stage)
    needed = predicted(job.setup(longest, stages[-1], recompute=job.recompute is not False)).peak
    sharded = f", ZeRO {stages[-1]}" if job.engine == "deepspeed" else ""
    raise UserError(
        f"{job.label} on {job.ranks} x {gpu.name} {gpu.memory_gb:g} GB: needs {needed / 1e9:.0f} GB a GPU (predicted) "
        f"for one sample of {longest} positions{sharded}, has {usable(gpu) / 1e9:.0f}; {_remedy(job)}"
    )


def _remedy(job: TrainingJob) -> str:
    sharded = job.engine == "deepspeed"
    ways = {
        f"give the stage more GPUs (execution.stages.{job.stage}.gpus)": sharded,
        "choose execution.engine: deepspeed, which shares the work among several GPUs": not sharded,
        "leave execution.gradient_checkpointing to the plan": job.recompute is False,
        "choose precision: bf16-weights": sharded and job.schedule.precision != "bf16-weights",
        "lower max_length": True,
    }
    return ", or ".join(way for way, helps in ways.items() if helps)


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


ANSWER_BYTES: Mapping[AnswerPrecision, int] = {"fp32": 4, "bf16": 2}
"""Of a weight of the LLM, a key or a value."""


def prediction_bytes(
    llm: LlmShape, vision: VisionShape, new_tokens: int, batch: int, text: int = PROMPT_TOKENS,
    precision: AnswerPrecision = "fp32",
) -> int:  # fmt: skip
    """Memory of asking: weights, those of the vision encoder in float32, and keys and values of a batch."""
    tokens = vision.tokens + text + new_tokens
    cache = 2 * llm.layers * llm.kv_heads * llm.head_dim * tokens * batch
    return 4 * vision.parameters + ANSWER_BYTES[precision] * (llm.parameters + cache)


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
    precision: AnswerPrecision = "fp32",
) -> int:
    """How many questions of ``text`` tokens to ask at a time on one GPU: ``limit``, in fp32 halved until they fit.

    UserError if not even one question fits next to the weights, or not as many as bf16 is to be asked.
    """
    batch = limit
    while (needed := prediction_bytes(llm, vision, new_tokens, batch, text, precision)) > usable(gpu):
        if batch == 1 or precision == "bf16":
            asked = "one question" if batch == 1 else f"{batch} questions"
            lower = "" if batch == 1 else ", or lower prediction.batch of the scale"
            raise UserError(
                f"{label} on 1 x {gpu.name} {gpu.memory_gb:g} GB: needs {needed / 1e9:.0f} GB (predicted) to ask "
                f"{asked} in {precision}, has {usable(gpu) / 1e9:.0f}; name a larger GPU (execution.gpu){lower}"
            )
        batch //= 2
    return batch
