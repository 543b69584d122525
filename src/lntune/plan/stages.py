"""The stages by name: the module of each, and its code version, which results are named after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lntune.benchmarks.registry import question_stages, reference_stages, score_stages
from lntune.config import Frozen
from lntune.config.load import load
from lntune.errors import UserError
from lntune.store.fingerprint import code_fingerprint, versions
from lntune.store.manifest import AcceptedEdit, undone

STAGES_OF_REPORT_ITEMS = (
    "table", "figure-bars", "figure-cost", "figure-heat-maps", "figure-gradients", "claims", "comparison", "data-table",
    "rehearsal",
)  # fmt: skip
"""The stages whose results are published."""


def _modules(*names: str) -> dict[str, str]:
    return {name: f"lntune.stages.{name.replace('-', '_')}" for name in names}


STAGES = {
    **_modules("draw", "fetch", "convert", "prepare"),
    **{name: stage.module for name, stage in question_stages().items()},
    **{name: stage.module for name, stage in reference_stages().items()},
    **_modules("encode", "rehearse", "connector", "finetune", "measure", "predict", "predict-other", "similarity"),
    **{name: stage.module for name, stage in score_stages().items()},
    **_modules("halve", "select", *STAGES_OF_REPORT_ITEMS),
    **_modules("train-clip", "train-vit", "train-llm"),
}
"""Stage to its module, in the order in which they run; the demo's weights come last, being apart."""


def stage_module(stage: str) -> Any:
    """The module of a stage, by the stage's name."""
    return import_module(STAGES[stage])


ACCEPTED = Path("workflow/accepted.yaml")


class AcceptedEdits(Frozen):
    """``workflow/accepted.yaml``, which ``lntune accept`` writes; it is committed with the edits that it is about."""

    accepted: tuple[AcceptedEdit, ...]


def read_accepted(root: Path) -> tuple[AcceptedEdit, ...]:
    """All accepted edits of a checkout, the oldest first, none without the file; UserError if that is damaged."""
    path = root / ACCEPTED
    if not path.is_file():
        return ()
    edits: tuple[AcceptedEdit, ...] = load(path, AcceptedEdits).accepted
    for place, edit in enumerate(edits):
        if edit.stage not in STAGES:
            raise UserError(f"{path}: accepted[{place}].stage: there is no stage {edit.stage!r}")
    return edits


@dataclass(frozen=True)
class CodeVersion:
    """The code and packages that make one stage's results: digest by module, version by distribution, as they are now.

    Results are named after ``named_code`` and ``named_packages``, those before the ``accepted`` edits in force: the
    names rest on their declared equivalence.
    """

    stage: str
    code: Mapping[str, str]
    packages: Mapping[str, str]
    named_code: Mapping[str, str]
    named_packages: Mapping[str, str]
    accepted: tuple[AcceptedEdit, ...]


def code_version(stage: str, edits: Sequence[AcceptedEdit]) -> CodeVersion:
    """The code version of a stage as checkout and environment are now; ``edits`` are all that were accepted.

    UserError if a package is not installed, or a module does not parse.
    """
    code, packages = code_fingerprint(STAGES[stage]), versions(stage_module(stage).PACKAGES)
    return CodeVersion(stage, code, packages, *undone(stage, code, packages, edits))
