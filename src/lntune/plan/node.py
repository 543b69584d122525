"""The graph's nodes: one for each result that there is or will be, with all that decides it, and why it is made."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from lntune.config import Frozen
from lntune.environment import PORTABLE
from lntune.plan.stages import CodeVersion, stage_module
from lntune.store.identity import Identity, input_name
from lntune.store.job import NoExecution
from lntune.store.manifest import Change, InputRecord, Manifest, Store, differences, input_record, slug
from lntune.store.reuse import ResultIndex, find, is_no_work, work_of
from lntune.training.endings import KINDS, PASSED_ON


@dataclass(frozen=True, eq=False)
class Part:
    """A folder in a result that is an input of its own: what else the result holds does not matter to the reader."""

    node: "Node"
    folder: str

    @property
    def id(self) -> str:
        """How an identity names it."""
        return input_name(self.node.id, self.folder)


@dataclass(frozen=True, eq=False)
class Node:
    """One result that there is or will be."""

    stage: str
    label: str
    settings: Frozen
    inputs: "Inputs"
    execution: Frozen
    code_version: CodeVersion
    environment: Mapping[str, str]

    @cached_property
    def identity(self) -> Identity:
        """Everything that decides this result."""
        inputs = {
            role: [one.id for one in given] if isinstance(given, tuple) else given.id
            for role, given in self.inputs.items()
        }
        settings = self.settings.model_dump(mode="json")
        code, packages = self.code_version.named_code, self.code_version.named_packages
        return Identity(self.stage, settings, code, packages, inputs, self.environment)

    @cached_property
    def id(self) -> str:
        """The identity's short hash."""
        return self.identity.id

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.label}-{self.id}"

    @property
    def path(self) -> str:
        """Its folder below the store, by which people name it."""
        return f"{self.stage}/{self.name}"

    def parents(self) -> Iterator["Node"]:
        """All inputs, in the order of the roles."""
        for role in self.inputs:
            yield from self.players(role)

    def players(self, role: str) -> tuple["Node", ...]:
        """The inputs that play a role; none where the role is not there."""
        given = self.inputs.get(role, ())
        if isinstance(given, tuple):
            return given
        return (given.node if isinstance(given, Part) else given,)


Inputs = Mapping[str, Node | Part | tuple[Node, ...]]
"""Role to the result, the part of one, or the results in order that play it."""


def make_node(
    code_version: CodeVersion,
    label: Sequence[object],
    settings: Frozen,
    inputs: Inputs | None = None,
    execution: Frozen | None = None,
    *,
    portable: bool = False,
) -> Node:
    """A node of the code version's stage; ``settings`` and ``execution`` are objects of the stage's own models.

    ``portable`` fixes how numbers are rounded, for a stage that computes with floats.
    """
    given = NoExecution() if execution is None else execution
    module = stage_module(code_version.stage)
    assert type(settings) is module.Settings and type(given) is module.Execution, f"not those of {code_version.stage}"
    rounds = not {"torch", "numpy"}.isdisjoint(code_version.packages)
    environment = PORTABLE if portable and rounds else {}
    return Node(code_version.stage, slug(label), settings, dict(inputs or {}), given, code_version, environment)


def result_folder(store: Store, given: Node | Part) -> Path:
    """Where a node's result, or a part of it, is or will be."""
    if isinstance(given, Part):
        return result_folder(store, given.node) / given.folder
    return store.folder(given.stage, given.label, given.id)


def input_folders(store: Store, node: Node) -> dict[str, Path | tuple[Path, ...]]:
    """Role to the folder, or the folders in order, that play it."""
    return {
        role: tuple(result_folder(store, one) for one in given)
        if isinstance(given, tuple)
        else result_folder(store, given)
        for role, given in node.inputs.items()
    }


def manifest_path(store: Store, node: Node) -> Path:
    """Where a node's manifest is or will be."""
    return store.manifest(node.stage, node.label, node.id)


def is_done(store: Store, node: Node) -> bool:
    """Whether a node's result is there."""
    return store.is_done(node.stage, node.label, node.id)


def can_link(store: Store, node: Node) -> bool:
    """Whether a result can be linked because its work has been done before.

    Its inputs need not be there, if they can be linked themselves: then it is known what they will hold. What rests on
    a training that left no model is linked to the record of that.
    """
    return is_without_model(store, node) or _found(store, node) is not None


def is_without_model(store: Store, given: Node | Part | tuple[Node, ...]) -> bool:
    """Whether a result holds, or will hold, no more than how the training which it rests on ended without a model."""
    if isinstance(given, tuple):  # a selection's candidates
        return all(is_without_model(store, one) for one in given)
    inputs = (given.node if isinstance(given, Part) else given).inputs
    return any((result_folder(store, given) / name).is_file() for name in KINDS) or any(
        is_without_model(store, inputs[role]) for role in ("candidates", *PASSED_ON) if role in inputs
    )


def _found(store: Store, node: Node) -> Path | None:
    """The finished result under another name that did a node's work."""
    records: dict[str, InputRecord | tuple[InputRecord, ...]] = {}
    for role, given in node.inputs.items():
        ones = given if isinstance(given, tuple) else (given,)
        if is_no_work(role, None):
            continue
        known = [record for one in ones if (record := _will_hold(store, one))]
        if len(known) < len(ones):
            return None
        records[role] = tuple(known) if isinstance(given, tuple) else known[0]
    return find(store, node.stage, work_of(node.identity, records))


def _will_hold(store: Store, given: Node | Part) -> InputRecord | None:
    """What an input holds, or will hold once it has been linked; None if that has to be computed first."""
    node, inside = (given.node, given.folder) if isinstance(given, Part) else (given, "")
    folder = result_folder(store, node) if is_done(store, node) else _found(store, node)
    return _record(folder / inside) if folder else None


_record = cache(input_record)


def closure(nodes: Sequence[Node]) -> list[Node]:
    """The nodes and everything that they are made from, inputs before what needs them, each once."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in found:
            for parent in node.parents():
                visit(parent)
            found[node] = None

    for node in nodes:
        visit(node)
    return list(found)


# --- why a result has to be made -------------------------------------------------------------------------------------

Kind = Literal["new", "setting", "code", "package", "input", "environment"]
_LONGEST_VALUE = 40


@dataclass(frozen=True)
class Reason:
    """One difference: a setting's key, a module, a package or the stage of an input, and what it was and is."""

    kind: Kind
    what: str = ""
    was: str | None = None
    now: str | None = None

    @property
    def text(self) -> str:
        """The reason in words."""
        if self.kind == "new":
            return "new"
        if self.kind == "input":
            return f"follows from {self.what}"
        if self.kind == "code":
            return f"{self.what} {'is new' if self.was is None else 'is gone' if self.now is None else 'changed'}"
        return f"{self.what} {_short(self.was)} -> {_short(self.now)}"


def _short(value: str | None) -> str:
    text = "nothing" if value is None else value
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def flat(settings: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested settings as dotted keys with JSON values."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        else:
            found[before + key] = json.dumps(value, sort_keys=True)
    return found


def compared(was: Identity, now: Identity) -> Iterator[Reason]:
    """Every difference between two identities of one stage; inputs by role."""
    kinds: tuple[tuple[Kind, Mapping[str, Change]], ...] = (
        ("setting", differences(flat(was.settings), flat(now.settings))),
        ("code", differences(was.code, now.code)),
        ("package", differences(was.packages, now.packages)),
        ("input", differences(flat(was.inputs), flat(now.inputs))),
        ("environment", differences(was.environment, now.environment)),
    )
    for kind, changes in kinds:
        for name, change in changes.items():
            yield Reason(kind, name, change.was, change.now)


def why(node: Node, index: ResultIndex) -> tuple[Manifest | None, list[Reason], list[Node]]:
    """Why this result has to be made, compared with the result of its label that differs least, if there is one.

    Returns that result; the node's own reasons, "new" without one; and the inputs that it had not.
    """
    earlier = [
        (manifest, list(compared(manifest.identity(), node.identity)))
        for manifest in index.named(node.stage, node.label)
    ]
    if not earlier:
        return None, [Reason("new")], []
    manifest, reasons = min(earlier, key=lambda one: len(one[1]))
    known = {record.id for _, record in manifest.parents()}
    own = [one for one in reasons if one.kind != "input"]
    return manifest, own, [one for one in node.parents() if one.id not in known]
