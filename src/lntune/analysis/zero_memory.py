"""What the engines hold besides activations."""

from collections.abc import Sequence

from lntune.analysis.ledger import Buffer, Ledger
from lntune.analysis.skeleton import Module, Skeleton, Weight
from lntune.config.training import EngineName


class PlainMemory:
    """Plain PyTorch: weights, gradients of their type, and AdamW's two moments, all whole; the update is fused."""

    linear_saves_input = False

    def __init__(self, ledger: Ledger, model: Skeleton, weight: int) -> None:
        self.ledger = ledger
        trained = model.trained
        total = sum(one.numel for one in trained)
        vision = model.vision.numel
        self.held: Sequence[Buffer] = [
            ledger.new((model.numel - total - vision) * weight, "frozen weights"),
            ledger.new(total * weight, "weights that train"),
            ledger.new(vision * weight, "vision encoder"),
            ledger.new(total * 2 * weight + 4 * len(trained), "AdamW's moments"),
        ]
        self.gradients: dict[Weight, Buffer] = {}

    def gather(self, module: Module) -> object:
        """Weights are there."""

    def gradient(self, weight: Weight, gradient: Buffer) -> None:
        """Keep it; a later one is added to it in place."""
        if weight not in self.gradients:
            self.gradients[weight] = gradient.rename("gradients")

    def end_of_backward(self, last: bool) -> None:
        """Gradients stay where they are."""

    def optimiser_step(self) -> None:
        """Clipping and the fused update work in place."""
        self.gradients.clear()


def engine_of(
    name: EngineName, zero_stage: int, ranks: int, ledger: Ledger, model: Skeleton, weight: int
) -> PlainMemory:
    """The account of an engine."""
    return PlainMemory(ledger, model, weight)
