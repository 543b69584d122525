"""``lntune accept``: declare an edit of code, or another version of a package, equivalent for the results of a stage.

The declaration is written to ``workflow/accepted.yaml``, which is committed: what was made before the edit then keeps
its name, and nothing is made again. ``lntune verify`` lists what rests on it.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from lntune.errors import UserError
from lntune.files import write_whole
from lntune.plan.node import Node, closure, compared, is_done
from lntune.plan.plan import Plan
from lntune.plan.stages import ACCEPTED, STAGES, read_accepted
from lntune.plan.study import Study
from lntune.plan.targets import targets_of
from lntune.store.identity import canonical_json
from lntune.store.manifest import AcceptedEdit, Manifest, differences
from lntune.store.reuse import ResultIndex

_HEADER = """\
# Edits of code, and versions of packages, that someone declared to change no result of a stage: `lntune accept` writes
# them here, to be committed. Results are named as if they had not happened; `lntune verify` lists what rests on them.
"""


@dataclass(frozen=True)
class Acceptance:
    """An edit that was accepted, and how many of the stage's pending results are now found under their old names."""

    edit: AcceptedEdit
    results: int
    still_pending: int

    @property
    def text(self) -> str:
        """One line for the person who declared it."""
        changed = ", ".join([*self.edit.code, *self.edit.packages])
        left = f"; {self.still_pending} are still pending, for other reasons" if self.still_pending else ""
        return f"{self.edit.stage}: {self.results} results stay as they were made, with other {changed}{left}"


def accept(root: Path, stages: Sequence[str], because: str) -> list[Acceptance]:
    """Accept, for each stage, what changed in its code and packages since its results were made; write it down.

    The stages are taken in the order in which they run, so that the inputs of a later one have their old names again.

    Raises:
        UserError: there is no such stage, no reason, or nothing to accept; nothing is written then.
    """
    if not because.strip():
        raise UserError("--because is empty; say why the results are the same")
    for stage in stages:
        if stage not in STAGES:
            near = difflib.get_close_matches(stage, STAGES, 1)
            raise UserError(f"accept: there is no stage {stage!r}; {_hint(near)}")
    study, edits = Study.read(root), list(read_accepted(root))
    made = []
    for stage in (stage for stage in STAGES if stage in stages):
        before = _pending(Plan(study, edits), stage)
        edit = _edit(Plan(study, edits), stage, before, because.strip())
        edits.append(edit)
        left = len(_pending(Plan(study, edits), stage))
        made.append(Acceptance(edit, len(before) - left, left))
    _write(root / ACCEPTED, edits)
    return made


def _hint(near: Sequence[str]) -> str:
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(STAGES)}"


def _pending(plan: Plan, stage: str) -> list[Node]:
    """The results of a stage that are not there, of all that the config asks for."""
    asked = [target.node for target in targets_of(plan, ())]
    return [node for node in closure(asked) if node.stage == stage and not is_done(plan.store, node)]


def _edit(plan: Plan, stage: str, missing: Sequence[Node], because: str) -> AcceptedEdit:
    """What the most of the missing results differ in from finished ones, if that is code and packages alone."""
    index = ResultIndex(plan.store)
    found: Counter[str] = Counter()
    edits: dict[str, AcceptedEdit] = {}
    for node in missing:
        for manifest in index.named(stage, node.label):
            if {reason.kind for reason in compared(manifest.identity(), node.identity)} <= {"code", "package"}:
                edit = _difference(manifest, node, because)
                key = canonical_json([edit.model_dump()["code"], edit.model_dump()["packages"]])
                edits.setdefault(key, edit)
                found[key] += 1
    if not found:
        raise UserError(_nothing(plan, stage, missing))
    return edits[found.most_common(1)[0][0]]


def _difference(manifest: Manifest, node: Node, because: str) -> AcceptedEdit:
    return AcceptedEdit(
        stage=node.stage,
        because=because,
        date=datetime.now(UTC).date().isoformat(),
        code=differences(manifest.code, node.identity.code),
        packages=differences(manifest.packages, node.identity.packages),
    )


def _nothing(plan: Plan, stage: str, missing: Sequence[Node]) -> str:
    """Why there is nothing to accept."""
    if not missing:
        return f"accept {stage}: all its results are there under this config; there is nothing to accept"
    for node in missing:
        for manifest in ResultIndex(plan.store).named(stage, node.label):
            kinds = {reason.kind for reason in compared(manifest.identity(), node.identity)}
            if kinds <= {"code", "package", "input"}:
                above = dict.fromkeys(one.stage for one in node.parents() if not is_done(plan.store, one))
                return (
                    f"accept {stage}: its inputs are pending too; accept {', '.join(above)} in the same command, "
                    f"or make them first"
                )
    return f"accept {stage}: no result in the store differs from the pending ones in code and packages alone"


def _write(path: Path, edits: Sequence[AcceptedEdit]) -> None:
    document = {"accepted": [edit.model_dump(mode="json") for edit in edits]}
    write_whole(path, _HEADER + yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True))
