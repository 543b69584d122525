"""What a round of training spends its time on, by kind of operation."""

from collections.abc import Callable, Mapping

from torch.profiler import ProfilerActivity, profile

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "attention": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "softmax over the vocabulary": ("aten::_log_softmax", "aten::_log_softmax_backward_data"),
    "optimiser": ("aten::_fused_adamw_", "aten::_foreach_norm", "aten::_foreach_mul_"),
}
"""PyTorch's names of the operations."""


def profiled(work: Callable[[], Mapping[str, object]]) -> dict[str, object]:
    """What a round answers, and ``spent``: microseconds a token by kind; ``rest`` is whatever is no other."""
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        told = dict(work())
    own = {event.key: event.self_cpu_time_total for event in measured.key_averages()}
    tokens = float(str(told["tokens"]))
    spent = {kind: sum(own.get(name, 0.0) for name in names) / tokens for kind, names in KINDS.items()}
    spent["rest"] = float(str(told["seconds"])) * 1e6 / tokens - sum(spent.values())
    return told | {"spent": spent}
