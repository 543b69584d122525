"""What turns a micro batch into gradients and gradients into new weights, and the numerics it runs under.

:class:`Engine` is all that the training loop knows of it. :class:`PlainEngine` is plain PyTorch in one
process; an engine that shards optimiser state over several GPUs can take its place without a change to the
loop.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lntune.config.training import TrainingSettings
from lntune.model.encode import EncodedSample
from lntune.model.multimodal import MultimodalModel


class Engine(Protocol):
    """Gradients, updates and resumable state of one model."""

    def backward(self, samples: Sequence[EncodedSample], features: Tensor | None, answer_tokens: int) -> Tensor:
        """Add a micro batch's gradients to those held; return its part of the global batch's loss."""

    def step(self, learning_rate: float) -> Tensor:
        """Clip, update the weights, drop the gradients; return the gradients' norm before clipping."""

    def state(self) -> dict[str, Tensor]:
        """Return the trainable weights and the optimiser's state by name."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a state that ``state`` returned in place."""


class PlainEngine:
    """AdamW over the parameters that require gradients, in one process.

    bf16 is autocast over float32 weights: matrix products run in bf16, norms, loss, gradients and optimiser
    in float32. tf32 is a property of the matrix products, which :func:`numerics` sets.
    """

    def __init__(self, model: MultimodalModel, settings: TrainingSettings) -> None:
        self.model, self.settings = model, settings
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert self.named, "nothing trains"
        self.device = next(iter(self.named.values())).device
        self.optimizer = torch.optim.AdamW(
            decay_groups(self.named.values(), settings.weight_decay),
            lr=settings.learning_rate,
            betas=(0.9, 0.999),
            eps=1e-8,
            fused=True,
        )

    def backward(self, samples: Sequence[EncodedSample], features: Tensor | None, answer_tokens: int) -> Tensor:
        """Run one micro batch forward and backward; see :class:`Engine`."""
        bf16 = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss: Tensor = self.model(samples, features, answer_tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step(self, learning_rate: float) -> Tensor:
        """Clip to ``max_grad_norm`` and update at this rate; see :class:`Engine`."""
        limit = self.settings.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self.named.values(), float("inf") if limit is None else limit)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return ``weight/<parameter>`` and ``<optimiser's key>/<parameter>``; see :class:`Engine`."""
        state = {f"weight/{name}": parameter.detach() for name, parameter in self.named.items()}
        for name, parameter in self.named.items():
            held = self.optimizer.state.get(parameter, {})
            state |= {f"{key}/{name}": value for key, value in held.items()}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put weights and optimiser state back; see :class:`Engine`."""
        for key, value in state.items():
            kind, name = key.split("/", 1)
            parameter = self.named[name]
            value = value.to(self.device)
            if kind == "weight":
                assert value.shape == parameter.shape, f"{name} has another shape in the checkpoint"
                parameter.data.copy_(value)
            else:
                self.optimizer.state[parameter][kind] = value


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Split parameters into those that decay (matrices) and those that do not (norm weights, biases)."""
    everything = list(parameters)
    matrices = [p for p in everything if p.ndim >= 2]
    vectors = [p for p in everything if p.ndim < 2]
    groups: list[dict[str, object]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
