"""Where a model computes: this rank's GPU if the machine has one, else the CPU."""

import os

import torch
from torch import nn

from lntune.config.training import Precision
from lntune.model.multimodal import MultimodalModel


def device() -> torch.device:
    """The GPU with this process's local rank (0 unless torchrun says otherwise), or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def place(model: MultimodalModel, precision: Precision = "fp32") -> MultimodalModel:
    """Move a model to :func:`device`; for ``bf16-weights``, connector and LLM are made bfloat16 on the way.

    Buffers keep their precision: rotary frequencies in bfloat16 would blur far positions.
    """
    if precision == "bf16-weights":
        for part in (model.connector, model.llm):
            _to_bfloat16(part)
    return model.to(device())


def _to_bfloat16(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
