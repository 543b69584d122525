"""What decides the result of a training run, and, apart from it, how one machine carries it out."""

from typing import Literal

from pydantic import Field

from lntune.config.base import Frozen

Precision = Literal["fp32", "tf32", "bf16"]


class Schedule(Frozen):
    """Everything about training but its learning rate that shapes the weights that come out.

    The optimiser is AdamW with betas 0.9 and 0.999 and eps 1e-8. Weight decay falls on matrices alone, never on
    norm weights or biases. ``max_length`` counts the positions that the LLM sees, image tokens included.
    ``precision`` bf16 means autocast: the weights, their gradients and the optimiser stay in float32.
    """

    epochs: float = Field(gt=0, description="may be a fraction of an epoch")
    global_batch: int = Field(ge=1, description="samples that one optimiser step sees")
    warmup_ratio: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    max_length: int = Field(ge=2)
    precision: Precision
    gradient_checkpointing: bool
    max_steps: int | None = Field(default=None, ge=1, description="stop here if the epochs would last longer")
    max_grad_norm: float | None = Field(default=1.0, gt=0, description="null: gradients are not clipped")


class TrainingSettings(Schedule):
    """A schedule at one learning rate; part of a result's identity."""

    learning_rate: float = Field(gt=0)


class LoraSettings(Frozen):
    """LoRA's size and scale (Hu et al., 2022): its update is (alpha / rank) * B A x, with dropout on x."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


class Execution(Frozen):
    """How a machine carries the run out: no part of a result's identity.

    The weights are the same to the byte for equal ``micro_batch`` and ``threads``, and the same up to
    rounding otherwise.
    """

    micro_batch: int = Field(ge=1, description="samples in one forward and backward pass")
    threads: int = Field(ge=1)
    checkpoint_steps: int | None = Field(default=None, ge=1, description="null: no checkpoints")
    cache_features: bool = Field(default=True, description="keep the image features of the data in memory")
