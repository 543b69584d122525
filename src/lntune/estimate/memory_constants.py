"""What memory is predicted with: the constants of PyTorch and DeepSpeed, in bytes or in numbers. None is fitted.

DeepSpeed's are its own defaults (0.19.8), under its names in brackets.
"""

from collections.abc import Mapping

from lntune.config.training import Precision

HALF, FULL, DOUBLE = 2, 4, 8
"""Bytes of a number in bfloat16, float32 and float64."""

WEIGHT_BYTES: Mapping[Precision, int] = {"fp32": FULL, "tf32": FULL, "bf16": FULL, "bf16-weights": HALF}
"""Of connector and LLM; the vision encoder's weights are float32 always."""

CUBLAS_WORKSPACE = 2 * 8 * 4096 * 1024
"""CUBLAS_WORKSPACE_CONFIG=:4096:8, which model/device.py asks for, in the forward and in the backward thread."""

REDUCE_BUCKET = 500_000_000
"""Numbers in a bucket at most (reduce_bucket_size); no more than train, no fewer than SMALLEST_BUCKET."""

SMALLEST_BUCKET = 1_000_000

ALLREDUCE_BUCKET = 500_000_000
"""Numbers that stage 0 reduces at a time (MEMORY_OPT_ALLREDUCE_SIZE)."""

PERSISTENT = 100_000
"""ZeRO-3 shards no parameter smaller than this (stage3_param_persistence_threshold)."""

REUSE_DISTANCE, PREFETCH, SUB_GROUP = 1_000_000_000, 50_000_000, 1_000_000_000
"""ZeRO-3 keeps what is used again within the first, fetches the second ahead, updates the third at a time (numbers)."""
