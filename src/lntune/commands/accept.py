"""``lntune accept``: declare an edit of code, or another version of a package, equivalent for the results of a stage.

The declaration is written to ``workflow/accepted.yaml``, which is committed: what was made before the edit then keeps
its name, and nothing is made again. ``lntune verify`` lists what rests on it.
"""

import difflib
from collections import defaultdict
from collections.abc import Sequence
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
from lntune.store.manifest import AcceptedEdit, differences
from lntune.store.reuse import ResultIndex

_HEADER = """\
# Edits of code, and versions of packages, that someone declared to change no result of a stage: `lntune accept` writes
# them here, to be committed. Results are named as if they had not happened; `lntune verify` lists what rests on them.
"""


def accept(root: Path, stages: Sequence[str], because: str) -> list[str]:
    """Accept, for each stage, what changed in its code and packages since its results were made; write it down.

    The stages are taken in the order in which they run, so that the inputs of a later one have their old names again.
    A line for each says what was accepted, and how many of its pending results are now found under their old names.
    UserError, and nothing is written, if there is no such stage, no reason, or nothing to accept.
    """
    if not because.strip():
        raise UserError("--because is empty; say why the results are the same")
    for stage in stages:
        if stage not in STAGES:
            near = difflib.get_close_matches(stage, STAGES, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(STAGES)}"
            raise UserError(f"accept: there is no stage {stage!r}; {hint}")
    study, edits, lines = Study.read(root), list(read_accepted(root)), []
    for stage in (stage for stage in STAGES if stage in stages):
        plan = Plan(study, edits)
        before = _pending(plan, stage)
        edit = _edit(plan, stage, before, because.strip())
        edits = [*edits, edit]
        left = len(_pending(Plan(study, edits), stage))
        still_pending = f"; {left} are still pending, for other reasons" if left else ""
        changed = ", ".join([*edit.code, *edit.packages])
        lines.append(
            f"{stage}: {len(before) - left} results stay as they were made, with other {changed}{still_pending}"
        )
    document = {"accepted": [edit.model_dump(mode="json") for edit in edits]}
    text = yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
    write_whole(root / ACCEPTED, _HEADER + text)
    return lines


def _pending(plan: Plan, stage: str) -> list[Node]:
    """The results of a stage that are not there, of all that the config asks for."""
    asked = [target.node for target in targets_of(plan, ())]
    return [node for node in closure(asked) if node.stage == stage and not is_done(plan.store, node)]


def _edit(plan: Plan, stage: str, missing: Sequence[Node], because: str) -> AcceptedEdit:
    """What the most of the missing results differ in from finished ones, if that is code and packages alone."""
    if not missing:
        raise UserError(f"accept {stage}: all its results are there under this config; there is nothing to accept")
    index, today = ResultIndex(plan.store), datetime.now(UTC).date().isoformat()
    found: dict[str, list[AcceptedEdit]] = defaultdict(list)
    with_other_inputs = []
    for node in missing:
        for manifest in index.named(stage, node.label):
            kinds = {reason.kind for reason in compared(manifest.identity(), node.identity)}
            if kinds <= {"code", "package"}:
                code = differences(manifest.code, node.identity.code)
                packages = differences(manifest.packages, node.identity.packages)
                edit = AcceptedEdit(stage=stage, because=because, date=today, code=code, packages=packages)
                found[edit.model_dump_json()].append(edit)
            elif kinds <= {"code", "package", "input"}:
                with_other_inputs.append(node)
    if found:
        return max(found.values(), key=len)[0]
    if with_other_inputs:
        above = dict.fromkeys(one.stage for one in with_other_inputs[0].parents() if not is_done(plan.store, one))
        raise UserError(
            f"accept {stage}: its inputs are pending too; accept {', '.join(above)} in the same command, "
            f"or make them first"
        )
    raise UserError(f"accept {stage}: no result in the store differs from the pending ones in code and packages alone")
