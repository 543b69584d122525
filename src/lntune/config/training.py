"""What decides the result of a training run, and, apart from it, how one machine carries it out."""

import re
from typing import Annotated, Literal

from pydantic import Field

from lntune.config import Frozen

Precision = Literal["fp32", "tf32", "bf16", "bf16-weights"]
AnswerPrecision = Literal["fp32", "bf16"]
"""Of a tuned model that is asked; bf16: LLM and connector, weights and all, are in bfloat16."""
EngineName = Literal["plain", "deepspeed"]
Library = Literal["open_clip", "timm"]
"""What reads a vision encoder."""

ConnectorKind = Literal["linear", "mlp2x_gelu"]
"""One linear layer, LLaVA's and the paper's; or two with a GELU between them, LLaVA-1.5's."""


def connector_inputs(kind: ConnectorKind, width: int, hidden: int) -> tuple[int, ...]:
    """Inputs of each of its layers, for features of ``width``; all have ``hidden`` outputs."""
    return (width,) if kind == "linear" else (width, hidden)


UsualConnector = Annotated[ConnectorKind, Field(exclude_if=lambda kind: kind == "linear")]
"""As a stage's setting, which is no part of an id where it is the paper's."""

Norm = Literal["input", "post"]
"""Of a decoder layer: the one before the attention, and the one behind it."""


class Schedule(Frozen):
    """Everything about training but its learning rate that shapes the weights that come out.

    The optimiser is AdamW (betas 0.9 and 0.999, eps 1e-8); weight decay falls on matrices alone. ``max_length`` counts
    the positions that the LLM sees, image tokens included. ``precision`` bf16 means autocast: weights, gradients and
    optimiser stay in float32. bf16-weights is DeepSpeed's bf16: weights and gradients in bfloat16, with float32 masters
    and optimiser state of what trains; the paper's Table 2 was measured so, as its numbers tell.
    """

    epochs: float = Field(gt=0, description="may be a fraction of an epoch")
    global_batch: int = Field(ge=1, description="samples that one optimiser step sees")
    warmup_ratio: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    max_length: int = Field(ge=2)
    precision: Precision
    max_steps: int | None = Field(default=None, ge=1, description="stop here if the epochs would last longer")
    max_grad_norm: float | None = Field(default=1.0, gt=0, description="null: gradients are not clipped")

    def at(self, learning_rate: float) -> "TrainingSettings":
        """This schedule at a learning rate."""
        return TrainingSettings(**dict(self), learning_rate=learning_rate)


class TrainingSettings(Schedule):
    """A schedule at one learning rate; part of a result's identity."""

    learning_rate: float = Field(gt=0)


class LoraSettings(Frozen):
    """LoRA's size and scale (Hu et al., 2022): its update is (alpha / rank) * B A x, with dropout on x."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


GPU_REQUIRED = "LNTUNE_GPU_REQUIRED"
"""Set in the environment of a job that was given GPUs: it and its ranks must not compute on the CPU instead."""


class PlannedGpu(Frozen):
    """The GPU that a plan reckons with: part of its name, and its memory in 10**9 bytes."""

    name: str
    memory_gb: float = Field(gt=0)

    def is_kind_of(self, name: str) -> bool:
        """Whether a GPU that calls itself ``name`` is of this kind: it bears every word of the plan's name."""
        return all(word in name.lower() for word in re.findall(r"[a-z0-9]+", self.name.lower()))


class OnDevice(Frozen):
    """Where a job computes: no part of a result's identity."""

    device: Literal["auto", "gpu", "cpu"] = Field(
        default="auto", description="gpu: the job was given GPUs, and ends if it cannot use them; auto: as there are"
    )
    gpu: PlannedGpu | None = Field(default=None, description="null: any")


class Passes(Frozen):
    """How a global batch is cut into forward and backward passes, and which of them keep their activations."""

    micro_batch: int = Field(ge=1, description="samples in one pass, at most")
    positions: int | None = Field(
        default=None,
        ge=1,
        description="of the LLM in one pass, padding included; a longer sample goes alone; null: any",
    )
    recompute_above: int | None = Field(
        default=None, ge=0, description="a pass of more positions recomputes its activations; null: none does"
    )


class Execution(Passes, OnDevice):
    """How a machine carries the run out: no part of a result's identity.

    The weights are the same to the byte for equal values, and the same up to rounding otherwise.
    """

    threads: int = Field(ge=1, description="of a rank, for computing")
    checkpoint_steps: int | None = Field(default=None, ge=1, description="null: none by steps")
    checkpoint_minutes: float | None = Field(default=None, gt=0, description="null: none by time")
    cache_features: bool = Field(default=True, description="keep the image features of the data in memory")
    engine: EngineName = Field(default="plain", description="plain: one process; deepspeed: ``ranks`` of them")
    ranks: int = Field(default=1, ge=1, description="processes, one a GPU, that share every global batch")
    zero_stage: int = Field(default=0, ge=0, le=3, description="what DeepSpeed shards over the ranks")
    workers: int = Field(default=1, ge=1, description="threads of a rank that read and decode images")
