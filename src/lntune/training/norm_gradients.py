"""The recorder of the gradients of LayerNorm (paper sec. 5.3, A.2.2): a few numbers a step for every norm that trains.

Recorded are the input and post-attention norms of the decoder layers, not the final norm, of which the paper shows
nothing: the gradient of the mean loss over the global batch's answer tokens, all micro batches and ranks added up,
before clipping. A step's line of the metrics log gets ``"norm_gradients": {"1.input": [mean, variance, minimum,
maximum], ...}``, each over the elements of that norm's gradient; the variance is the population's. Layers count from 1,
as in the paper ("the 11th layer"). At 7B that is 64 norms of four numbers, 4 kB a step.

Imports nothing heavy: what reads the log takes the format from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lntune.config.llm_family import family_of
from lntune.config.training import Norm

if TYPE_CHECKING:
    from torch import Tensor

    from lntune.model.multimodal import MultimodalModel
    from lntune.training.loop import Recorder

KEY = "norm_gradients"
"""Where a line of the metrics log holds them."""

DIGITS = 6
"""Significant digits of what is recorded."""


def recorded_name(layer: int, norm: Norm) -> str:
    """The name of a decoder layer's norm in the log; layers count from 1."""
    return f"{layer}.{norm}"


def norm_gradient_recorder(model: MultimodalModel) -> Recorder | None:
    """A recorder of the norms that train in this model, for :func:`lntune.training.loop.train`; None if none does.

    To be called once the tuning method has marked what trains, and before an engine holds the model.
    """
    named = trained_norms(model)
    if not named:
        return None

    def record(step: int, gradients: Mapping[str, Tensor]) -> dict[str, object]:
        rows = summaries([gradients[parameter] for parameter in named.values()])
        return {KEY: dict(zip(named, rows, strict=True))}

    return record


def trained_norms(model: MultimodalModel) -> dict[str, str]:
    """The parameter of each norm that is recorded, by the norm's name in the log; layer by layer, input before post."""
    # Decoder layers are known by the norms that their family declares, whatever wraps the LLM or a norm (PEFT).
    family = family_of(model.llm)
    blocks = [
        module for module in model.llm.modules() if hasattr(module, family.input) and hasattr(module, family.post)
    ]
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found: dict[str, str] = {}
    kinds: tuple[Norm, Norm] = ("input", "post")
    for layer, block in enumerate(blocks, start=1):
        for norm, module in zip(kinds, family.paper_norms(block), strict=True):
            trained = [names[id(p)] for p in module.parameters() if id(p) in names]
            if trained:
                (found[recorded_name(layer, norm)],) = trained  # an RMSNorm has a weight and no bias
    return found


def summaries(gradients: list[Tensor]) -> list[list[float]]:
    """Mean, population variance, minimum and maximum over the elements of each gradient, in DIGITS digits.

    All have the LLM's hidden size, so they are one matrix, and one transfer from the GPU. Sums are in float64.
    """
    import torch

    matrix = torch.stack(gradients).double()
    mean = matrix.mean(dim=1)
    variance = (matrix - mean[:, None]).square().mean(dim=1)
    table = torch.stack([mean, variance, matrix.amin(dim=1), matrix.amax(dim=1)], dim=1)
    return [[float(f"{value:.{DIGITS}g}") for value in row] for row in table.tolist()]
