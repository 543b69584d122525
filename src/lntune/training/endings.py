"""How a training ended that left no model: it diverged, or its search of learning rates did not keep it.

In a search either is a result. The finetune's folder holds diverged.json or stopped.json in place of weights, and so
does what would have been made with them: answers, scores, similarity, the choice among candidates that all ended so.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lntune.config import Frozen
from lntune.errors import UserError
from lntune.files import link_or_copy
from lntune.store.job import EARLIER, KEPT, Job, Metrics

PASSED_ON = ("tuned", "answers", KEPT, EARLIER)
"""The roles of inputs without which a stage has nothing to do."""

NO_MODEL = "no_model"
"""The metric of a result without a model: why there is none."""


class Divergence(Frozen):
    """One run that diverged: its peak learning rate, the step (from 1) of how many, and what it found, as text."""

    learning_rate: float
    step: int
    steps: int
    loss: str
    grad_norm: str

    @property
    def short(self) -> str:
        """What became of it, in a cell's words."""
        return short_text(self.facts)

    @property
    def facts(self) -> dict[str, int]:
        """What the file of a choice says of it."""
        return {"diverged_at": self.step}


class Stop(Frozen):
    """One run that a search did not keep: the steps that it did, its CIDEr there, and by that its place (from 1)."""

    learning_rate: float
    step: int
    score: float
    place: int
    candidates: int

    @property
    def short(self) -> str:
        """What became of it, in a cell's words."""
        return short_text(self.facts)

    @property
    def facts(self) -> dict[str, int]:
        """What the file of a choice says of it."""
        return {"stopped_at": self.step, "place": self.place}


def short_text(facts: Mapping[str, Any]) -> str:
    """What became of a training by such facts, in a cell's words; empty for one that ended well."""
    if at := facts.get("stopped_at"):
        return f"stopped at step {at}, place {facts['place']}"
    return f"diverged at step {at}" if (at := facts.get("diverged_at")) else ""


Ending = Divergence | Stop
KINDS: dict[str, type[Ending]] = {"diverged.json": Divergence, "stopped.json": Stop}
"""The file that holds the runs of each kind."""


class Diverged(UserError):  # noqa: N818
    """Raised by every rank, at the same step; who wants no result without a model lets it pass."""

    def __init__(self, label: str, run: Divergence) -> None:
        super().__init__(f"{label}: training {describe([run])}; lower its learning_rate")
        self.run = run


def describe(runs: Sequence[Ending]) -> str:
    """What became of the training of one candidate, or of all candidates of a variant."""
    if len(runs) == 1:
        rate = f"at learning rate {runs[0].learning_rate:g}"
        if isinstance(one := runs[0], Stop):
            return f"{one.short} of {one.candidates} {rate} (CIDEr {one.score:.2f})"
        return f"{one.short} of {one.steps} {rate} (loss {one.loss}, gradient norm {one.grad_norm})"
    diverged = [f"{one.learning_rate:g} at step {one.step}" for one in runs if isinstance(one, Divergence)]
    stopped = [f"{one.learning_rate:g} at step {one.step}" for one in runs if isinstance(one, Stop)]
    before = f" (stopped before: {', '.join(stopped)})" if stopped else ""
    return f"diverged at every learning rate{' that was kept' * bool(stopped)}: {', '.join(diverged)}{before}"


def write_endings(out: Path, runs: Sequence[Ending]) -> Metrics:
    """Write diverged.json, stopped.json or both; return the metrics of a result that has no model."""
    for name, kind in KINDS.items():
        if its := [one.model_dump() for one in runs if isinstance(one, kind)]:
            (out / name).write_text(json.dumps(its, indent=1) + "\n", encoding="utf-8")
    return {NO_MODEL: describe(runs)}


def read_endings(folder: Path) -> list[Ending]:
    """The runs that left a result without a model; none where there is one."""
    found = [(kind, folder / name) for name, kind in KINDS.items() if (folder / name).is_file()]
    return [kind.model_validate(one) for kind, path in found for one in json.loads(path.read_bytes())]


def passed_on(job: Job[Any, Any]) -> Metrics | None:
    """In place of any stage's work: link the endings of what the job rests on; None where that has a model."""
    for folder in (given for role in PASSED_ON if isinstance(given := job.inputs.get(role), Path)):
        if runs := read_endings(folder):
            for name in filter(lambda name: (folder / name).is_file(), KINDS):
                link_or_copy(folder / name, job.out / name)
            return {NO_MODEL: describe(runs)}
    return None
