"""A tuned model that diverged: its loss or its gradients' norm stopped being finite, and there are no weights.

In a search of learning rates that is a result. The finetune's folder holds diverged.json in place of weights, and so
does what would have been made with them: answers, scores, similarity, the choice among candidates that all diverged.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lntune.config import Frozen
from lntune.errors import UserError
from lntune.files import link_or_copy
from lntune.store.job import Job, Metrics

DIVERGED = "diverged.json"

PASSED_ON = ("tuned", "answers")
"""The roles of inputs without which a stage has nothing to do."""


class Divergence(Frozen):
    """One run that diverged: its peak learning rate, the step (from 1) of how many, and what it found, as text."""

    learning_rate: float
    step: int
    steps: int
    loss: str
    grad_norm: str


class Diverged(UserError):  # noqa: N818
    """Raised by every rank, at the same step; who wants no result without a model lets it pass."""

    def __init__(self, label: str, run: Divergence) -> None:
        super().__init__(f"{label}: training {describe([run])}; lower its learning_rate")
        self.run = run


def describe(runs: Sequence[Divergence]) -> str:
    """What became of the training of one candidate, or of all candidates of a variant."""
    one, *others = runs
    if others:
        return "diverged at every learning rate: " + ", ".join(f"{r.learning_rate:g} at step {r.step}" for r in runs)
    found = f"loss {one.loss}, gradient norm {one.grad_norm}"
    return f"diverged at step {one.step} of {one.steps} at learning rate {one.learning_rate:g} ({found})"


def write_divergences(out: Path, runs: Sequence[Divergence]) -> Metrics:
    """Write diverged.json; return the metrics of a result that has no model."""
    (out / DIVERGED).write_text(json.dumps([one.model_dump() for one in runs], indent=1) + "\n", encoding="utf-8")
    return {"diverged": describe(runs)}


def read_divergences(folder: Path) -> list[Divergence]:
    """The runs that left a result without a model; none where there is one."""
    path = folder / DIVERGED
    return [Divergence.model_validate(one) for one in json.loads(path.read_bytes())] if path.is_file() else []


def passed_on(job: Job[Any, Any]) -> Metrics | None:
    """In place of any stage's work: link the diverged.json of what the job rests on; None where that has a model."""
    for folder in (given for role in PASSED_ON if isinstance(given := job.inputs.get(role), Path)):
        if runs := read_divergences(folder):
            link_or_copy(folder / DIVERGED, job.out / DIVERGED)
            return {"diverged": describe(runs)}
    return None
