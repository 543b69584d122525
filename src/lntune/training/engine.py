"""What turns a micro batch into gradients and gradients into new weights.

:class:`Engine` is all that the training loop knows of it. :class:`PlainEngine` is plain PyTorch in one process;
:class:`lntune.training.deepspeed_engine.DeepSpeedEngine` shares the work and the optimiser's state among several ranks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lntune.config.training import TrainingSettings
from lntune.model.encode import EncodedSample
from lntune.model.multimodal import MultimodalModel


class Engine(Protocol):
    """Gradients, updates and resumable state of one model; all ranks call the same methods in the same order."""

    model: MultimodalModel

    def backward(
        self, samples: Sequence[EncodedSample], features: Tensor | None, answer_tokens: int, last: bool = True
    ) -> Tensor:
        """Add a micro batch's gradients (nothing for an empty one); return its part of the global batch's loss.

        ``last`` marks this rank's last micro batch before :meth:`step`.
        """

    def gradients(self) -> Mapping[str, Tensor]:
        """The global batch's whole gradients by name; between the last :meth:`backward` and :meth:`step`."""

    def step(self, learning_rate: float) -> Tensor:
        """Clip, update the weights, drop the gradients; return the gradients' norm before clipping."""

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield this rank's share of weights and optimiser state by name; together the same for any engine."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a whole state in place."""

    def weights(self) -> dict[str, Tensor]:
        """Return what trained, in whole; on other ranks than the first, nothing."""


class PlainEngine:
    """AdamW over the parameters that require gradients, in one process.

    bf16 is autocast over float32 weights: matrix products run in bf16, norms, loss, gradients and optimiser in float32.
    tf32 is a property of the matrix products, which :func:`lntune.model.device.numerics` sets.
    """

    def __init__(self, model: MultimodalModel, settings: TrainingSettings) -> None:
        assert settings.precision != "bf16-weights", "float32 masters of bfloat16 weights are DeepSpeed's"
        self.model, self.settings = model, settings
        self.named = trainable(model)
        self.device = next(iter(self.named.values())).device
        self.optimizer = adamw(self.named.values(), settings)

    def backward(
        self, samples: Sequence[EncodedSample], features: Tensor | None, answer_tokens: int, last: bool = True
    ) -> Tensor:
        bf16 = self.settings.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss: Tensor = self.model(samples, some_features(self.model, features), answer_tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def gradients(self) -> Mapping[str, Tensor]:
        """The gradients held, not copied."""
        return {name: p.grad for name, p in self.named.items() if p.grad is not None}

    def step(self, learning_rate: float) -> Tensor:
        norm = clip(self.named.values(), self.settings.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield ``weight/<parameter>`` and ``<optimiser's key>/<parameter>``."""
        for name, parameter in self.named.items():
            yield f"weight/{name}", parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                yield f"{key}/{name}", value

    def load(self, state: Mapping[str, Tensor]) -> None:
        for key, value in state.items():
            kind, name = key.split("/", 1)
            parameter = self.named[name]
            value = value.to(self.device)
            if kind == "weight":
                assert value.shape == parameter.shape, f"{name} has another shape in the checkpoint"
                parameter.data.copy_(value)
            else:
                self.optimizer.state[parameter][kind] = value

    def weights(self) -> dict[str, Tensor]:
        """Return the model's own tensors, not copies."""
        return {name: parameter.detach() for name, parameter in self.named.items()}


class LazyTensors(Mapping[str, Tensor]):
    """Tensors by name, each read or put together when it is asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]]) -> None:
        self.makers = makers

    def __getitem__(self, name: str) -> Tensor:
        return self.makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require gradients by name; there must be some."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert named, "nothing trains"
    return named


def some_features(model: MultimodalModel, features: Tensor | None) -> Tensor:
    """Return the features, or without any those of no image, (0, T, W), so that the connector takes part in every pass.

    Its gradient is zero then, not missing, and ranks that see no image gather its weights along with the others.
    """
    return torch.zeros(0, model.vision.tokens, model.vision.width) if features is None else features


def clip(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale gradients to this norm if theirs is larger; return their norm before that."""
    return nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)


def adamw(parameters: Iterable[nn.Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    """Return the optimiser that :class:`Schedule` names, at the peak rate; norm weights and biases do not decay."""
    everything = list(parameters)
    groups = [
        {"params": [p for p in everything if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in everything if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,
    )
