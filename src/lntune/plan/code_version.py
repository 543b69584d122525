"""What makes each stage's results: its code and packages, and the names that those go by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lntune.config import Frozen
from lntune.config.load import load
from lntune.errors import UserError
from lntune.plan.stages import STAGES, stage_module
from lntune.store.fingerprint import code_fingerprint, versions
from lntune.store.manifest import AcceptedEdit, undone

ACCEPTED = Path("workflow/accepted.yaml")


class AcceptedEdits(Frozen):
    """``workflow/accepted.yaml``, which ``lntune accept`` writes; it is committed with the edits that it is about."""

    accepted: tuple[AcceptedEdit, ...]


def read_accepted(root: Path) -> tuple[AcceptedEdit, ...]:
    """All accepted edits of a checkout, the oldest first; none without the file.

    Raises:
        UserError: the file is not as it should be, or speaks of a stage that there is not.
    """
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
    """What makes one stage's results.

    Attributes:
        stage: the stage.
        code: digest by module, as they are now.
        packages: version by distribution, as they are now.
        edits: all edits that were ever accepted.
    """

    stage: str
    code: Mapping[str, str]
    packages: Mapping[str, str]
    edits: Sequence[AcceptedEdit]

    @cached_property
    def _undone(self) -> tuple[dict[str, str], dict[str, str], tuple[AcceptedEdit, ...]]:
        return undone(self.stage, self.code, self.packages, self.edits)

    @property
    def named_code(self) -> Mapping[str, str]:
        """The code that results are named after: as it was before the accepted edits that are in force."""
        return self._undone[0]

    @property
    def named_packages(self) -> Mapping[str, str]:
        """The packages that results are named after."""
        return self._undone[1]

    @property
    def accepted(self) -> tuple[AcceptedEdit, ...]:
        """The accepted edits that are in force, on whose word the names rest."""
        return self._undone[2]


class CodeVersions:
    """The makers of all stages, as the checkout and the environment are now."""

    def __init__(self, edits: Sequence[AcceptedEdit] = ()) -> None:
        self._edits = edits
        self._made: dict[str, CodeVersion] = {}

    def of(self, stage: str) -> CodeVersion:
        """The maker of a stage; UserError if a package is not installed or a module does not parse."""
        if stage not in self._made:
            code = code_fingerprint(STAGES[stage])
            self._made[stage] = CodeVersion(stage, code, versions(stage_module(stage).PACKAGES), self._edits)
        return self._made[stage]
