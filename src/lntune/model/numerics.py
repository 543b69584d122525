"""How PyTorch computes while a block runs: threads, determinism and the precision of float32 products."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch

from lntune.config.training import Precision


@contextmanager
def numerics(threads: int, precision: Precision) -> Iterator[None]:
    """Use this many threads, deterministic algorithms, and TF32 only if asked for; restore all at the end."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    matmul, fill = torch.backends.cuda.matmul, cast(Any, torch.utils.deterministic)
    convolution = cast(Any, torch.backends.cudnn).conv  # the vision encoders' first layer; TF32 unless told otherwise
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        fill.fill_uninitialized_memory,
        matmul.fp32_precision,
        convolution.fp32_precision,
    )
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    fill.fill_uninitialized_memory = False  # a debugging aid that would cost a write of every new tensor
    matmul.fp32_precision = convolution.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        fill.fill_uninitialized_memory = before[2]
        matmul.fp32_precision = before[3]
        convolution.fp32_precision = before[4]
