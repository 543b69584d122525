"""figure-gradients: gradients of a layer's norms while models are tuned (paper sec. 5.3; Figures 4, A3, A4).

The inputs are selections, whose chosen run's metrics log holds what was recorded at each step; of several seeds the
first's. The paper speaks of a "gradient variance" and of "more concentrated" gradients, and defines neither. What is
computed here is the variance over all elements of all steps together.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from lntune.config import Frozen
from lntune.config.training import Norm
from lntune.errors import UserError
from lntune.report.rows import Row, ShownItemSettings, scale_note
from lntune.stages.figure import write_figure
from lntune.store.job import Job, Metrics, NoExecution
from lntune.training.norm_gradients import KEY, recorded_name

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from lntune.report.figures.gradients import NormGradients

PACKAGES = ("matplotlib", "numpy")


class ShownNorm(Frozen):
    """A norm of the ``layer``-th layer ``of`` so many."""

    norm: Norm
    layer: int
    of: int


class Settings(ShownItemSettings):
    """What all tables and figures say, and which norms are shown."""

    norms: tuple[ShownNorm, ...] = Field(strict=False)


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write NAME.pdf, NAME.svg, NAME.png, NAME.csv and cells.json."""
    from lntune.report.figures.gradients import Gradients, draw_gradients, write_csv

    settings = job.settings
    model, first = settings.rows[0].group, settings.norms[0]
    assert all(row.group == model for row in settings.rows), "one LLM, as the config is checked for"
    assert all((norm.layer, norm.of) == (first.layer, first.of) for norm in settings.norms), "and one layer"
    layer = layer_at(first.layer, first.of, recorded_layers(_log(job, settings.rows[0])))
    series = tuple(_series(_log(job, row), row, norm.norm, layer) for norm in settings.norms for row in settings.rows)
    shown = Gradients(model, layer, series, settings.scale, scale_note(settings))
    write_figure(job.out, settings, shown, draw_gradients, write_csv, [[] for _ in settings.rows])
    return {"layer": layer, **{f"variance_{one.method}_{one.norm}": one.variance for one in series}}


def _log(job: Job[Settings, NoExecution], row: Row) -> "Path":
    from lntune.stages.select import CHOSEN

    return job.folders("selections")[row.selections[0]] / CHOSEN / "metrics.jsonl"


def _series(log: "Path", row: Row, norm: Norm, layer: int) -> "NormGradients":
    import numpy as np

    from lntune.report.figures.gradients import NormGradients

    steps, recorded = read_norm_gradients(log, layer, norm)
    means, variances, minima, maxima = recorded.T
    mean, deviation, lowest, highest = (tuple(kind.tolist()) for kind in (means, np.sqrt(variances), minima, maxima))
    return NormGradients(row.title, norm, steps, mean, deviation, lowest, highest, pooled_variance(recorded))


def read_norm_gradients(metrics: "Path", layer: int, norm: Norm) -> "tuple[tuple[int, ...], NDArray[np.float64]]":
    """What a finetune's metrics.jsonl recorded of a norm of the ``layer``-th decoder layer, counted from 1.

    Returns the steps, from 1, and (steps, 4): of each step's gradient, before clipping, the mean, population variance,
    minimum and maximum over its elements. Raises UserError if the file does not hold them for every step, or is no
    such log.
    """
    import numpy as np

    name = recorded_name(layer, norm)
    logged = _recorded(metrics)
    for number, (_, recorded) in enumerate(logged, start=1):
        if name not in recorded:
            raise UserError(f"{metrics}:{number}: no gradients of {name}; recorded are {_summary(recorded)}")
    try:
        values = np.array([recorded[name] for _, recorded in logged], dtype=np.float64).reshape(len(logged), 4)
    except (TypeError, ValueError):
        raise UserError(
            f"{metrics}: the gradients of {name} are not four numbers a step; delete that result and make it again"
        ) from None
    return tuple(step for step, _ in logged), values


def recorded_layers(metrics: "Path") -> int:
    """The number of decoder layers of the model whose finetune wrote this log, as far as their norms train.

    Raises UserError as :func:`read_norm_gradients` does.
    """
    return len(_layers(_recorded(metrics)[0][1]))


def layer_at(number: int, of: int, layers: int) -> int:
    """The layer of a model with ``layers`` layers that lies as deep as the ``number``-th of ``of``; all count from 1.

    It is the layer that holds the middle of that one, if both models are drawn equally high; where the middle lies
    between two layers, the deeper one. The paper's 11th and 21st layer of 32 are the 2nd and 3rd of 4.

    Raises UserError if there is no such layer.
    """
    if not (1 <= number <= of and layers >= 1):
        raise UserError(f"there is no layer {number} of {of}, or none in a model of {layers}; layers count from 1")
    return (2 * number - 1) * layers // (2 * of) + 1


def pooled_variance(recorded: "NDArray[np.float64]") -> float:
    """The variance over all elements of all steps, of :func:`read_norm_gradients`'s numbers (steps, 4).

    It is the mean of the steps' variances and the variance of their means: exact, since all steps have as many
    elements.
    """
    return float(recorded[:, 1].mean() + recorded[:, 0].var())


def _recorded(metrics: "Path") -> list[tuple[int, Mapping[str, object]]]:
    """The step and what was recorded of norms, line by line; at least one."""
    try:
        lines = metrics.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{metrics}: cannot be read ({error.strerror}); it is a finetune's log of its steps") from None
    found: list[tuple[int, Mapping[str, object]]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            found.append((int(record["step"]), dict(record.get(KEY, {}))))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(
                f"{metrics}:{number}: not a line of a training log; delete that result and make it again"
            ) from None
        if not found[-1][1]:
            raise UserError(
                f"{metrics}:{number}: no gradients of norms; name the log of a finetune whose method trains norms, "
                "such as layernorm"
            )
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
