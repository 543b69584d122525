"""Which earlier results tell what a job will take: those of its kind, that did as much work on such a machine.

    Kinds(plan, ResultIndex(plan.store)).like(node)

A kind is the stage, the settings that set the amount of work, how it is carried out, the shapes of the models, and the
kinds of the data, down to what was drawn or fetched. No scale's, label's or model's name is part of it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lntune.errors import UserError
from lntune.estimate.shapes import LlmShape, VisionShape, llm_on_disk, vision_on_disk
from lntune.plan.memory_fit import llm_shape, model_name, vision_shape
from lntune.plan.node import Node
from lntune.plan.plan import Plan
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.plan.study import once
from lntune.store.identity import digest
from lntune.store.manifest import InputRecord, Manifest
from lntune.store.reuse import ResultIndex

_NO_WORK = {
    "learning_rate",
    "learning_rates",
    "seed",
    "misaligned_share",
    "broken_share",
    "paper",
    "template",
    "system",
}
"""Settings that change a result and hardly the time that it takes."""

_IMPLIED = ("connector", "tuned")
"""Inputs whose size follows from the models and the method."""


class Kinds:
    """The kinds of a plan's nodes, and of the results that its store holds."""

    def __init__(self, plan: Plan, index: ResultIndex) -> None:
        self._plan, self._index = plan, index
        self._known: dict[int, str | None] = {}  # nodes and manifests live as long as plan and index

    def like(self, node: Node) -> list[Manifest]:
        """Up to 20 finished results of a node's kind, the newest; those that bear its label alone if there are any."""
        execution = self._plan.scale.execution
        card = execution.gpu.name.lower() if execution.gpu else ""
        fitting = [
            one
            for one in self._finished(node.stage).get(self._kind(node) or "", ())
            if not execution.of(node.stage).gpus or (one.machine.gpus and card in one.machine.gpus[0].lower())
        ]
        return ([one for one in fitting if one.label == node.label] or fitting)[:20]

    @once
    def _finished(self, stage: str) -> Mapping[str, Sequence[Manifest]]:
        found = defaultdict(list)
        for label in self._index.labels(stage):
            for one in self._index.named(stage, label):
                if "diverged" not in one.metrics:  # it ended early
                    found[self._kind(one) or "unknown"].append(one)
        return {kind: sorted(ones, key=lambda one: one.ended, reverse=True) for kind, ones in found.items()}

    def _kind(self, one: Node | Manifest) -> str | None:
        """The hash of a kind; None if that of an input is not known."""
        if id(one) not in self._known:
            if isinstance(one, Node):
                settings, execution = one.settings.model_dump(mode="json"), one.execution.model_dump(mode="json")
                inputs: list[tuple[str, Node | InputRecord]] = [
                    (role, given) for role in one.inputs for given in one.players(role)
                ]
            else:
                settings, execution, inputs = one.settings, one.execution, [*one.parents()]
            if one.stage in STAGES_OF_REPORT_ITEMS:
                settings = {}
            if one.stage in (*STAGES_OF_REPORT_ITEMS, "fetch"):  # paths and addresses
                execution = {}
            library = settings.get("library")
            sizes = [[role, self._size(role, given, library)] for role, given in inputs if role not in _IMPLIED]
            whole = all(size for _, size in sizes)
            self._known[id(one)] = digest([one.stage, _work(settings), execution, sorted(sizes)]) if whole else None
        return self._known[id(one)]

    def _size(self, role: str, given: Node | InputRecord, library: Any) -> str | None:
        """What an input's size follows from: a model's shape, or the kind of the data; None if it is gone."""
        if role in ("llm", "vision"):
            shape = _on_disk(role, self._plan.store.folder(given.stage, given.label, given.id), library)
            if shape is None and isinstance(given, Node):
                shape = self._planned(given)
            return shape.model_dump_json() if shape else None
        if isinstance(given, Node):
            return self._kind(given)
        return next(
            (self._kind(one) for one in self._index.named(given.stage, given.label) if one.id == given.id), None
        )

    @once
    def _planned(self, node: Node) -> LlmShape | VisionShape | None:
        """The shape of a model that has not been fetched, as memory is predicted from."""
        with suppress(UserError):
            if llm := model_name(self._plan.scale.llms, node):
                return llm_shape(self._plan.study, llm)
            if vision := model_name(self._plan.scale.visions, node):
                return vision_shape(self._plan.study, vision)
        return None


def _work(value: Any) -> Any:
    """Settings without those that set no amount of work."""
    if isinstance(value, Mapping):
        return {key: _work(one) for key, one in value.items() if key not in _NO_WORK}
    return value


@once
def _on_disk(role: str, folder: Path, library: Any) -> LlmShape | VisionShape | None:
    """The shape of a model whose config a result holds; None if it is gone or is none."""
    with suppress(UserError, KeyError, TypeError):
        return llm_on_disk(folder) if role == "llm" else vision_on_disk(folder, str(library))
    return None
