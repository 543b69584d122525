"""The peak memory of one GPU in a training step, predicted from the models' sizes alone.

    account = predict_memory(Setup(llm=LLMS["7B"], vision=VISIONS["open_clip"], method="layernorm"))
    account.peak, account.parts, account.moment

The step is run dry, with sizes in place of numbers: operation by operation as the code runs it, every tensor held as
long as PyTorch would hold it (docs/memory.md). Nothing is fitted. Pure Python: some milliseconds a prediction.

The memory that asking a tuned model takes. Unlike training's it has not been checked against a measurement.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from pydantic import Field

from lntune.config import Frozen
from lntune.config.training import EngineName, LoraSettings, Precision
from lntune.estimate.engine_memory import engine_memory
from lntune.estimate.shadow import Ledger, Shadow
from lntune.estimate.shadow_llama import Batch, Step
from lntune.estimate.shapes import LlmShape, VisionShape
from lntune.estimate.skeleton import Skeleton

Device = Literal["cuda", "cpu"]

WEIGHT_BYTES: Mapping[Precision, int] = {"fp32": 4, "tf32": 4, "bf16": 4, "bf16-weights": 2}

CUBLAS_WORKSPACE = 2 * 8 * 4096 * 1024
"""CUBLAS_WORKSPACE_CONFIG=:4096:8, which model/numerics.py asks for, in the forward and in the backward thread."""


class Setup(Frozen):
    """A training step whose memory is asked for.

    ``length`` counts all positions of a sample, image tokens included, ``answer_tokens`` those of them that bear a
    loss. ``accumulation`` says that an optimiser step has several micro-batches, so that gradients are held while the
    next are made.
    """

    llm: LlmShape
    vision: VisionShape
    method: str
    lora: LoraSettings | None = None
    precision: Precision = "bf16-weights"
    checkpointing: bool = True
    engine: EngineName = "deepspeed"
    zero_stage: int = Field(default=2, ge=0, le=3)
    ranks: int = Field(default=1, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    length: int = Field(default=512, ge=1)
    answer_tokens: int = Field(default=128, ge=1)
    accumulation: bool = False
    device: Device = "cuda"

    @property
    def stage(self) -> int | None:
        """The ZeRO stage that is used, None for the plain engine: bfloat16 weights have masters from stage 1 on."""
        if self.engine == "plain":
            return None
        return max(self.zero_stage, 1) if self.precision == "bf16-weights" else self.zero_stage


class MemoryAccount(Frozen):
    """The predicted peak in bytes, at which moment of the step it is reached, and what makes it up then."""

    peak: int
    moment: str
    parts: dict[str, int]
    trainable: int
    parameters: int


@lru_cache(maxsize=4096)
def predict_memory(setup: Setup) -> MemoryAccount:
    """Run one step dry and return the account at its peak."""
    ledger = Ledger()
    ledger.moment = "before the step"
    weight = WEIGHT_BYTES[setup.precision]
    model = Skeleton(setup.llm, setup.vision, setup.method, setup.lora)
    stage = setup.stage
    engine = engine_memory(ledger, model, weight, stage, setup.ranks, gloo=setup.device == "cpu")
    workspace = ledger.new(CUBLAS_WORKSPACE if setup.device == "cuda" else 0, "cuBLAS workspace")
    run = Shadow(ledger, weight, autocast=setup.precision == "bf16", device=setup.device, keeps_casts=stage != 3)
    step = Step(run, model, setup.llm, setup.checkpointing, engine)
    batch = Batch(setup.micro_batch, setup.length, setup.micro_batch * setup.answer_tokens, setup.micro_batch)
    for last in (False, True) if setup.accumulation else (True,):
        loss = step.forward(batch, setup.vision)
        step.backward(loss)
        del loss
        engine.end_of_backward(last)
    engine.optimiser_step()
    del workspace
    return MemoryAccount(
        peak=ledger.peak,
        moment=ledger.peak_moment,
        parts={part: size for part, size in ledger.peak_parts.items() if size},
        trainable=model.trainable,
        parameters=model.numel,
    )


PROMPT_TOKENS = 120
"""Tokens of text before an answer begins (assumed)."""


def prediction_bytes(llm: LlmShape, vision: VisionShape, new_tokens: int, batch: int) -> int:
    """Memory of asking: float32 weights, and keys and values of a batch."""
    tokens = vision.tokens + PROMPT_TOKENS + new_tokens
    cache = 2 * llm.layers * llm.kv_heads * llm.head_dim * 4 * tokens * batch
    return 4 * (llm.parameters + vision.parameters) + cache


def similarity_bytes(llm: LlmShape, vision: VisionShape, batch: int) -> int:
    """Memory of comparing layers: float32 weights, a batch's states of all layers, one prompt's twice in float64."""
    state = llm.layers * llm.hidden * (vision.tokens + PROMPT_TOKENS)
    return 4 * (llm.parameters + vision.parameters) + 4 * state * batch + 2 * 8 * state
