"""The memory that asking a tuned model takes. Unlike training's it has not been checked against a measurement."""

from lntune.analysis.shapes import LlmShape, VisionShape

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
