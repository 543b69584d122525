"""What a settings model allows at a place, and what a wrong name there most likely meant."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

Path = tuple[str | int, ...]

_DEEPEST = 5  # how far a model may contain itself when all its keys are listed
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (key: value)",
    "null": "null",
}


def near(word: str, known: Sequence[str]) -> str | None:
    """The name that was most likely meant, if any is near; capitals do not count."""
    lowered = {name.lower(): name for name in reversed(known)}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


class Schema:
    """A model's JSON schema, asked by path. The data say which of several alternatives is meant."""

    def __init__(self, model: type[BaseModel]) -> None:
        try:
            self._root: dict[str, Any] = model.model_json_schema()
        except PydanticInvalidForJsonSchema:
            self._root = {}  # then nothing can be suggested

    def keys(self, path: Path, data: Mapping[str, Any]) -> list[str]:
        """The keys that the mapping at a path may have by name."""
        return list(dict.fromkeys(key for node in self._at(path, data) for key in node.get("properties", {})))

    def describe(self, path: Path, data: Mapping[str, Any]) -> str:
        """What belongs at a path: its choices, or its type."""
        words = []
        for node in self._at(path, data):
            choices = [node["const"]] if "const" in node else node.get("enum", [])
            if choices:
                words.append(" or ".join(map(repr, choices)))
            elif node.get("type") in _TYPES:
                words.append(_TYPES[node["type"]])
        return " or ".join(dict.fromkeys(words))

    def description(self, path: Path, data: Mapping[str, Any]) -> str:
        """What the model itself says about the value at a path, or nothing."""
        return next((node["description"] for node in self._at(path, data) if "description" in node), "")

    def allows_null(self, path: Path, data: Mapping[str, Any]) -> bool:
        """Whether a path may hold null."""
        return any(node.get("type") == "null" for node in self._at(path, data))

    def guess(self, path: Path, data: Mapping[str, Any]) -> Path | None:
        """The path that an unknown one most likely meant: a near key here, or the same key elsewhere."""
        parent, key = path[:-1], str(path[-1])
        known = self.keys(parent, data)
        given: Any = data
        for part in parent:
            given = _inside(given, part)
        if key in known:  # it belongs to another alternative of a union
            return None
        found = near(key, [name for name in known if name not in given]) or near(key, known)
        if found:
            return (*parent, found)
        return next(
            (place for place in self._all_paths((), self._root, 0) if place[-1] == key and place != path),
            None,
        )

    def _at(self, path: Path, data: Any) -> list[dict[str, Any]]:
        nodes = self._alternatives(self._root, data)
        for part in path:
            data = _inside(data, part)
            inner = [child for node in nodes if (child := _child(node, part)) is not None]
            nodes = [one for child in inner for one in self._alternatives(child, data)]
        return nodes

    def _alternatives(self, node: dict[str, Any], data: Any) -> list[dict[str, Any]]:
        """The plain schemas behind references and unions, without those that a tag in the data rules out."""
        if "$ref" in node:
            return self._alternatives(self._root["$defs"][node["$ref"].rpartition("/")[2]], data)
        several = node.get("anyOf") or node.get("oneOf") or node.get("allOf")
        if several:
            return [plain for one in several for plain in self._alternatives(one, data)]
        tags = {key: child["const"] for key, child in node.get("properties", {}).items() if "const" in child}
        if isinstance(data, dict) and any(key in data and data[key] != tag for key, tag in tags.items()):
            return []
        return [node]

    def _all_paths(self, path: Path, node: dict[str, Any], depth: int) -> Iterator[Path]:
        """Every path of fixed keys in the schema."""
        for plain in self._alternatives(node, None):
            for key, child in plain.get("properties", {}).items():
                yield (*path, key)
                if depth < _DEEPEST:
                    yield from self._all_paths((*path, key), child, depth + 1)


def _child(node: dict[str, Any], part: str | int) -> dict[str, Any] | None:
    if isinstance(part, int):
        fixed = node.get("prefixItems", [])
        child = fixed[part] if part < len(fixed) else node.get("items")
    else:
        child = node.get("properties", {}).get(part, node.get("additionalProperties"))
    return child if isinstance(child, dict) else None


def _inside(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None
