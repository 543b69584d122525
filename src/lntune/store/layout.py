"""Where things lie in a store: ``<root>/<stage>/<label>-<id>/manifest.json``.

The label is for people; the id alone decides. A result is finished exactly if its manifest is there.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ID = re.compile(r"[0-9a-f]{12}")
_LONGEST_LABEL = 100


@dataclass(frozen=True)
class Store:
    """A folder of results, shared by any number of processes, checkouts and users."""

    root: Path

    def folder(self, stage: str, label: str, id: str) -> Path:
        """The folder of one result, finished or not."""
        assert _LABEL.fullmatch(stage), f"stage {stage!r} cannot be a folder's name"
        assert _LABEL.fullmatch(label) and len(label) <= _LONGEST_LABEL, f"label {label!r} is not a slug"
        assert _ID.fullmatch(id), f"{id!r} is no id"
        return self.root / stage / f"{label}-{id}"

    def manifest(self, stage: str, label: str, id: str) -> Path:
        """The one file that says that a result is finished."""
        return self.folder(stage, label, id) / MANIFEST

    def is_done(self, stage: str, label: str, id: str) -> bool:
        """Whether the result is finished."""
        return self.manifest(stage, label, id).is_file()

    def scratch(self, stage: str, id: str) -> Path:
        """Where a stage keeps what must outlive a failed or killed attempt, such as training checkpoints.

        It lies outside every declared output, because Snakemake deletes those of a job that failed.
        """
        assert _LABEL.fullmatch(stage) and _ID.fullmatch(id), f"{stage!r}, {id!r}"
        return self.root / ".scratch" / f"{stage}-{id}"


def slug(parts: Iterable[object]) -> str:
    """A label from its parts, joined by hyphens: ``["LoRA", 1e-4, "v1 chat"]`` -> ``LoRA-0.0001-v1-chat``.

    Raises:
        ValueError: nothing readable is left.
    """
    words = (re.sub(r"[^A-Za-z0-9._-]+", "-", str(part)).strip("-") for part in parts)
    label = "-".join(word for word in words if word).lstrip("._-")[:_LONGEST_LABEL].rstrip("._-")
    if not label:
        raise ValueError("a label needs at least one letter or digit")
    return label
