"""The name of a result: the hash of everything that made it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lntune.store.canonical import digest

# Part of every identity: raise it when the document below changes its meaning, and no old result is mistaken.
SCHEME = 1
ID_DIGITS = 12


def input_name(id: str, part: str | None) -> str:
    """How an identity names an input: a result by its id, a folder in one by ``id/folder``."""
    return id if part is None else f"{id}/{part}"


@dataclass(frozen=True)
class Identity:
    """Everything that decides the bytes of a result, and nothing else.

    Attributes:
        stage: the stage's name.
        settings: resolved settings, JSON types only; what changes speed alone does not belong here.
        code: digest by module (:func:`lntune.store.fingerprint.code_fingerprint`).
        packages: version by distribution, those alone that shape the numbers.
        inputs: role to the :func:`input_name` of what plays it, or to several in an order that counts.
    """

    stage: str
    settings: Mapping[str, Any]
    code: Mapping[str, str]
    packages: Mapping[str, str]
    inputs: Mapping[str, str | Sequence[str]]

    def document(self) -> dict[str, Any]:
        """The JSON document that the id is the hash of."""
        inputs = {role: ids if isinstance(ids, str) else list(ids) for role, ids in self.inputs.items()}
        return {
            "scheme": SCHEME,
            "stage": self.stage,
            "settings": dict(self.settings),
            "code": dict(self.code),
            "packages": dict(self.packages),
            "inputs": inputs,
        }

    @cached_property
    def id(self) -> str:
        """The first 12 hexadecimal digits of the document's BLAKE3."""
        return digest(self.document())[:ID_DIGITS]
