"""One text for one value: the JSON that identities are hashed from.

Two values have the same canonical text exactly if they are the same JSON value with the same types. The order
of keys in a mapping does not count; ``1``, ``1.0``, ``"1"`` and ``true`` are four different values.

The name of a result: the hash of everything that made it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blake3 import blake3

_PLAIN = (str, int, bool, type(None))


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, ASCII only.

    Tuples are written as lists. Subclasses of the plain types (NumPy scalars, enums) are refused with the
    other strangers, because their text is not settled by their value.

    Raises:
        TypeError: something that JSON has no type for, such as a set, a path or a key that is no text.
        ValueError: a number that is not finite.
    """
    _check(value, "value")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """BLAKE3 of the canonical text, as 64 hexadecimal digits. Raises as :func:`canonical_json` does."""
    return blake3(canonical_json(value).encode("ascii")).hexdigest()


def _check(value: Any, where: str) -> None:
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value!r}, which JSON cannot hold")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}, which is no text")
            _check(item, f"{where}.{key}")
    elif kind in (list, tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    else:
        raise TypeError(f"{where} is a {kind.__module__}.{kind.__qualname__}, which JSON has no type for")


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
