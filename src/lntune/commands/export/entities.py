"""The entities of a crate: the vocabulary that they are written in, and how files and results are named."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from lntune.commands.export.archive import Written
from lntune.commands.export.contents import Contents, Result
from lntune.store.layout import MANIFEST

README = "README.md"
WORKFLOW = "Snakefile"
OPERATOR = {"@id": "#operator"}
"""Whoever ran the workflow: no result records a person."""

BLAKE3 = "https://w3id.org/ro/terms/lntune#blake3"
_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
_TERMS = {"blake3": BLAKE3, "localPath": "https://w3id.org/ro/terms#localPath"}


def moment(time: datetime) -> str:
    """A time as the profiles want it: ISO 8601 with milliseconds and an offset in digits."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def path_id(path: str) -> dict[str, str]:
    """A reference to a file in the crate."""
    return {"@id": quote(path)}


class Entities:
    """What is added to one crate; ``crate`` is rocrate's own object."""

    def __init__(self, contents: Contents, written: Mapping[str, Written]) -> None:
        from rocrate.rocrate import ROCrate

        self.contents, self.written = contents, written
        self.crate: Any = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(_CONTEXT)
        self.crate.metadata.extra_terms.update(_TERMS)

    @property
    def root(self) -> Any:
        """The crate as a data set."""
        return self.crate.root_dataset

    def add(self, id: str, type: str, **properties: Any) -> Any:
        """Add a contextual entity; properties that are None or empty are left out."""
        from rocrate.model.contextentity import ContextEntity

        given = {"@type": type, **{name: value for name, value in properties.items() if value not in (None, [], "")}}
        return self.crate.add(ContextEntity(self.crate, id, properties=given))

    def stated(self, path: str) -> dict[str, str]:
        """Size and hashes of a file in the crate."""
        one = self.written[path]
        return {"contentSize": str(one.bytes), "sha256": one.sha256, "blake3": one.blake3}

    def file_id(self, result: Result, name: str) -> dict[str, str]:
        """A reference to a result's file, be it in the crate or named by its hash."""
        if name == MANIFEST or name in result.copied():
            return path_id(f"{result.path}/{name}")
        return {"@id": "#" + quote(f"{result.manifest.name}/{name}")}

    def file_ids(self, files: Iterable[tuple[Result, str]]) -> list[dict[str, str]]:
        """References to results' files."""
        return [self.file_id(result, name) for result, name in files]

    def document(self) -> bytes:
        """The whole graph as JSON; a list of one is written as its element, as RO-Crate 1.1 recommends."""
        document = self.crate.metadata.generate()
        document["@graph"] = [
            {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in one.items()}
            for one in document["@graph"]
        ]
        return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
