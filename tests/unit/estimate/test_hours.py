"""The operations that hours are predicted from, one by one, against those that torch counts in the real modules."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lntune.config.llm_shape import LlmShape
from lntune.config.training import LoraSettings, Schedule
from lntune.estimate.hours import attention_operations, forward_operations, head_operations, step_operations
from lntune.estimate.jobs import TrainingJob
from lntune.estimate.memory import Setup
from lntune.estimate.shapes import VISIONS, VisionShape
from lntune.estimate.training_step import build_model, run_steps

LORA = LoraSettings(rank=16, alpha=16, dropout=0.05)
VISION = VisionShape(width=64, intermediate=256, layers=2, image=28, patch=14, pre_norm=True)
DEEP = LlmShape(hidden=128, intermediate=352, layers=6, heads=4, kv_heads=4, head_dim=32, vocabulary=500)
WIDE = LlmShape(hidden=256, intermediate=704, layers=2, heads=8, kv_heads=2, head_dim=32, vocabulary=4000)
SCHEDULE = Schedule(epochs=1, global_batch=1, warmup_ratio=0, weight_decay=0, max_length=300, precision="fp32")
TEXT, ANSWERS = 255, 100


def counted(llm: LlmShape, method: str, *, recompute: bool) -> tuple[float, float]:
    """Operations of a real step on one sample: matrix products of LLM and connector, and attention's.

    Eager attention computes the whole square, of which the causal half counts, and nothing again in its backward pass.
    """
    setup = Setup(
        llm=llm, vision=VISION, method=method, lora=LORA if method == "lora" else None, precision="fp32",
        checkpointing=recompute, engine="plain", device="cpu", micro_batch=1, length=VISION.tokens + TEXT,
        answer_tokens=ANSWERS,
    )  # fmt: skip
    model = build_model(setup, attention="eager")
    with FlopCounterMode(display=False) as counter:
        run_steps(model, setup, lambda: None, steps=1)
    found = {str(operation): number for operation, number in counter.get_flop_counts()["Global"].items()}
    attention = found.pop("aten.bmm")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.vision.encode(torch.zeros(1, 3, VISION.image, VISION.image))
    return sum(found.values()) - counter.get_total_flops(), attention / 2


@pytest.mark.parametrize("llm", [DEEP, WIDE], ids=["deep", "wide"])
@pytest.mark.parametrize(
    ("method", "recompute"),
    [("layernorm", False), ("layernorm", True), ("finetune", False), ("finetune", True), ("lora", False),
     ("lora", True), ("attn-qv", False), ("attn-mlp", True), ("connector-only", False)],
)  # fmt: skip
def test_a_step_has_the_operations_that_torch_counts(llm: LlmShape, method: str, recompute: bool) -> None:
    lora = LORA if method == "lora" else None
    job = TrainingJob("it", "finetune", llm, VISION, method, lora, SCHEDULE, "plain", 1, 0)
    tokens, (_, seen) = VISION.tokens + TEXT, forward_operations(llm, VISION, TEXT, ANSWERS)
    attention = attention_operations(llm, tokens)
    products, squares = counted(llm, method, recompute=recompute)
    assert squares == pytest.approx((4 if recompute else 3) * attention, rel=1e-9)
    predicted = step_operations(job, TEXT, ANSWERS, recompute=recompute) - seen
    predicted -= (4.5 if recompute else 3.5) * attention  # flash attention's
    # Norms are taken for products.
    assert products == pytest.approx(predicted, rel=5e-3), products / predicted


def test_a_forward_pass_is_that_of_blocks_attention_and_head() -> None:
    for llm in (DEEP, WIDE):
        whole, _ = forward_operations(llm, VISION, TEXT, ANSWERS)
        without, _ = forward_operations(llm, VISION, TEXT, 0)
        assert whole - without == head_operations(llm, ANSWERS) == 2 * ANSWERS * llm.hidden * llm.vocabulary


@pytest.mark.parametrize("library", VISIONS)
def test_a_vision_encoder_has_the_operations_that_torch_counts(library: str) -> None:
    shape = VISIONS[library]
    setup = Setup(
        llm=DEEP, vision=shape, method="layernorm", lora=None, precision="fp32", checkpointing=False, engine="plain",
        device="cpu", micro_batch=1, length=shape.tokens + 2, answer_tokens=1,
    )  # fmt: skip
    with torch.device("meta"):
        model = build_model(setup)
        torch.backends.mha.set_fastpath_enabled(False)  # one operation, of which torch counts nothing
        try:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model.vision.encode(torch.zeros(1, 3, shape.image, shape.image))
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    _, seen = forward_operations(DEEP, shape, TEXT, ANSWERS)
    assert counter.get_total_flops() == pytest.approx(seen, rel=0.06), counter.get_total_flops() / seen
