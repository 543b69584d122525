"""Where and how a model computes: on which device, with how many threads, in which precision, deterministically."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from lntune.config.training import GPU_REQUIRED, Precision
from lntune.errors import UserError

if TYPE_CHECKING:
    from lntune.model.multimodal import MultimodalModel


def device() -> torch.device:
    """The GPU of this process's local rank, else the CPU; UserError where the job was given GPUs and this has none."""
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if GPU_REQUIRED in os.environ and torch.cuda.device_count() <= number:
        raise UserError(f"rank {number} on {socket.gethostname()} cannot use its GPU; look at `nvidia-smi` there")
    return torch.device("cuda", number) if torch.cuda.is_available() else torch.device("cpu")


def place(model: "MultimodalModel", precision: Precision = "fp32") -> "MultimodalModel":
    """Move a model to :func:`device`, in this precision."""
    return set_precision(model, precision).to(device())


def set_precision(model: "MultimodalModel", precision: Precision) -> "MultimodalModel":
    """Make the weights of connector and LLM bfloat16 where the precision is bf16-weights."""
    if precision == "bf16-weights":  # not buffers: rotary frequencies in bfloat16 would blur far positions
        for parameter in (*model.connector.parameters(), *model.llm.parameters()):
            parameter.data = parameter.data.to(torch.bfloat16)
    return model


@contextmanager
def numerics(threads: int, precision: Precision) -> Iterator[None]:
    """Use this many threads, deterministic algorithms, and TF32 only if asked for; restore all at the end."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    matmul, fill = torch.backends.cuda.matmul, cast(Any, torch.utils.deterministic)
    convolution = cast(Any, torch.backends.cudnn).conv  # the vision encoders' first layer; TF32 by default
    threads_before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    before = fill.fill_uninitialized_memory, matmul.fp32_precision, convolution.fp32_precision
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    fill.fill_uninitialized_memory = False  # a debugging aid that would cost a write of every new tensor
    matmul.fp32_precision = convolution.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic)
        fill.fill_uninitialized_memory, matmul.fp32_precision, convolution.fp32_precision = before
