"""How much the gradients of a norm vary over a finetune (paper sec. 5.3; Figures 4, A3, A4), read from its metrics log.

The paper speaks of a "gradient variance" and of "more concentrated" gradients, and defines neither. What is computed
here is the variance over all elements of all steps together.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lntune.config.training import Norm
from lntune.errors import UserError
from lntune.training.norm_gradients import KEY, recorded_name


@dataclass(frozen=True)
class NormGradients:
    """The gradient of one norm over a finetune, before clipping; arrays of one value a step, all (steps,).

    ``steps`` counts from 1. The others are over the elements of the gradient at that step; ``variance`` is the
    population's. ``layer`` counts from 1.
    """

    layer: int
    norm: Norm
    steps: NDArray[np.int64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]


def read_norm_gradients(metrics: Path, layer: int, norm: Norm) -> NormGradients:
    """What a finetune's metrics.jsonl recorded of the input or post-attention norm of a decoder layer, from 1.

    Raises UserError if the file does not hold it for every step, or is no such log.
    """
    name = recorded_name(layer, norm)
    steps, rows = [], []
    for number, (step, recorded) in enumerate(_recorded(metrics), start=1):
        if name not in recorded:
            raise UserError(f"{metrics}:{number}: no gradients of {name}; recorded are {_summary(recorded)}")
        steps.append(step)
        rows.append(recorded[name])
    try:
        values = np.array(rows, dtype=np.float64).reshape(len(steps), 4)
    except (TypeError, ValueError):
        raise UserError(
            f"{metrics}: the gradients of {name} are not four numbers a step; delete that result and make it again"
        ) from None
    return NormGradients(layer, norm, np.array(steps, dtype=np.int64), *values.T)


def recorded_layers(metrics: Path) -> int:
    """The number of decoder layers of the model whose finetune wrote this log, as far as their norms train.

    Raises UserError as :func:`read_norm_gradients` does.
    """
    _, recorded = _recorded(metrics)[0]
    return len(_layers(recorded))


def layer_at(number: int, of: int, layers: int) -> int:
    """The layer of a model with ``layers`` layers that lies as deep as the ``number``-th of ``of``; all count from 1.

    It is the layer that holds the middle of that one, if both models are drawn equally high; where the middle lies
    between two layers, the deeper one. For a model of ``of`` layers that is ``number`` itself. The paper's 11th and
    21st layer of 32 are the 2nd and 3rd of 4.

    Raises UserError if there is no such layer.
    """
    if not (1 <= number <= of and layers >= 1):
        raise UserError(f"there is no layer {number} of {of}, or none in a model of {layers}; layers count from 1")
    return (2 * number - 1) * layers // (2 * of) + 1


def pooled_variance(gradients: NormGradients) -> float:
    """The variance over all elements of all steps: the mean of the steps' variances and the variance of their means.

    Exact, since all steps have as many elements. It is at least the mean of the steps' variances.
    """
    return float(gradients.variance.mean() + gradients.mean.var())


def _recorded(metrics: Path) -> list[tuple[int, Mapping[str, object]]]:
    """The step and what was recorded of norms, line by line; at least one."""
    try:
        lines = metrics.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{metrics}: cannot be read ({error.strerror}); it is a finetune's log of its steps") from None
    found: list[tuple[int, Mapping[str, object]]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            step, recorded = int(record["step"]), record.get(KEY, {})
            names = dict(recorded)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(
                f"{metrics}:{number}: not a line of a training log; delete that result and make it again"
            ) from None
        if not names:
            raise UserError(
                f"{metrics}:{number}: no gradients of norms; name the log of a finetune whose method trains norms, "
                "such as layernorm"
            )
        found.append((step, names))
    if not found:
        raise UserError(f"{metrics}: no steps; delete that result and make it again")
    return found


def _layers(recorded: Mapping[str, object]) -> set[int]:
    return {int(name.partition(".")[0]) for name in recorded}


def _summary(recorded: Mapping[str, object]) -> str:
    """The recorded norms in words: what of which layers."""
    kinds = sorted({name.partition(".")[2] for name in recorded})
    layers = _layers(recorded)
    return f"{' and '.join(kinds)} of layers {min(layers)} to {max(layers)}"
