"""Why a result has to be made: what differs between it and the results of the same name that there are."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lntune.plan.node import Node
from lntune.store.identity import Identity
from lntune.store.manifest import Change, Manifest, differences
from lntune.store.reuse import ResultIndex

Kind = Literal["new", "setting", "code", "package", "input"]
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
            return f"{self.what} {_verb(self.was, self.now)}"
        return f"{self.what} {_short(self.was)} -> {_short(self.now)}"


def _verb(was: str | None, now: str | None) -> str:
    return "is new" if was is None else "is gone" if now is None else "changed"


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
    )
    for kind, changes in kinds:
        for name, change in changes.items():
            yield Reason(kind, name, change.was, change.now)


def closest(node: Node, shelf: ResultIndex) -> tuple[Manifest | None, list[Reason]]:
    """The result of the same label that differs in the fewest things, the newest of several, and these things.

    The result and the reason "new" if there is none.
    """
    best: tuple[Manifest | None, list[Reason]] = (None, [Reason("new")])
    for manifest in shelf.named(node.stage, node.label):
        reasons = list(compared(manifest.identity(), node.identity))
        if best[0] is None or len(reasons) < len(best[1]):
            best = manifest, reasons
    return best


def why(node: Node, shelf: ResultIndex) -> tuple[list[Reason], list[Node]]:
    """Why this result has to be made: its own reasons, and the inputs that the closest earlier result had not."""
    manifest, reasons = closest(node, shelf)
    if manifest is None:
        return reasons, []
    known = {record.id for _, record in manifest.parents()}
    return [one for one in reasons if one.kind != "input"], [one for one in node.parents() if one.id not in known]
