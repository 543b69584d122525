"""The peak memory of a training step, traced through the real code on tensors without numbers.

    trace_memory(setup).peak

The real model, of the real sizes, and the real engine run on fake CPU tensors, which have a shape and a type and hold
nothing; so 7B takes seconds on any machine. It checks :mod:`lntune.analysis.memory`, which imports no torch.
"""

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lntune.analysis.live_tensors import LiveTensors
from lntune.analysis.memory import Setup
from lntune.analysis.training_step import build_model, run_steps
from lntune.errors import UserError


@dataclass(frozen=True)
class Trace:
    """What a trace found: the most bytes alive in a step, the operation that made them so, and the seconds it took."""

    peak: int
    operation: str
    seconds: float


def trace_memory(setup: Setup) -> Trace:
    """Trace the second step of a run, when the optimiser has its state.

    With bfloat16 weights the update is left out: it is DeepSpeed's.

    Raises:
        UserError: DeepSpeed is asked for; it can be predicted, or measured with as many processes as ranks.
    """
    if setup.engine != "plain":
        raise UserError("a trace follows the plain engine; DeepSpeed's buffers are predicted: leave out --trace")
    started = time.monotonic()
    with torch.device("meta"):
        model = build_model(setup)
    with FakeTensorMode():
        _move_to_fake(model)
        with LiveTensors(model.parameters()) as live:
            run_steps(model, setup, live.restart)
    return Trace(live.peak, live.operation, time.monotonic() - started)


def _move_to_fake(model: nn.Module) -> None:
    """Replace tensors on the meta device, for which there is no fused attention, by fake ones on the CPU."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
