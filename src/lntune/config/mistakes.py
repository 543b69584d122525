"""What pydantic finds wrong with a config, in words for the person who wrote the file.

It knows no setting by name: all is taken from the model's JSON schema, the values and pydantic's errors. No model of a
config has a union, but for null.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

_LONGEST_VALUE = 60
_WHOLE, _NUMBER, _TEXT, _TRUTH = "a whole number", "a number", "text", "true or false"
_LIST, _MAPPING, _NULL = "a list", "a mapping (key: value)", "null"
_TYPES = {
    "integer": _WHOLE, "number": _NUMBER, "string": _TEXT, "boolean": _TRUTH, "array": _LIST, "object": _MAPPING,
    "null": _NULL,
}  # fmt: skip
# What each of pydantic's errors would have accepted; fields in braces come from the error's context.
_EXPECTED = {
    "int_type": _WHOLE, "int_from_float": _WHOLE, "float_type": _NUMBER, "string_type": _TEXT, "bool_type": _TRUTH,
    "list_type": _LIST, "tuple_type": _LIST, "dict_type": _MAPPING, "model_type": _MAPPING,
    "literal_error": "{expected}", "enum": "{expected}",
    "greater_than": "more than {gt}", "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}", "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} {entries}", "string_too_short": "at least {min_length} {characters}",
    "string_pattern_mismatch": "text of the form {pattern}",
}  # fmt: skip


def find_mistakes(error: ValidationError, data: Mapping[str, Any], model: type[BaseModel]) -> list[tuple[Path, str]]:
    """Where each mistake is in ``data``, the values as written, and a line on it; absent keys are last in a mapping."""
    schema = _Schema(model)
    errors = error.errors(include_url=False)  # what is wrong with a key is at the key
    problems = [(one["loc"][:-1] if one["loc"][-1:] == ("[key]",) else one["loc"], one) for one in errors]
    meant = {path: schema.guess(path, data) for path, one in problems if one["type"] == "extra_forbidden"}
    above = {path[:length] for path, _ in problems for length in range(len(path))}
    found = []
    for path, problem in problems:
        if path in meant:
            found.append((path, _unknown_key(meant[path], schema.keys(path[:-1]))))
        # A list may count as too short only because entries of it are wrong.
        elif not (
            (problem["type"] == "missing" and path in meant.values())
            or (problem["type"] == "too_short" and path in above)
        ):
            found.append((path, _text(problem, schema.at(path))))
    return sorted(found, key=lambda mistake: _position(mistake[0], data))


def path_text(path: Sequence[str | int]) -> str:
    """A place in a config as it is written in messages: ``tables[2].rows``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def near(word: str, known: Sequence[str]) -> str | None:
    """The name that was most likely meant, if any is near; capitals do not count."""
    lowered = {name.lower(): name for name in reversed(known)}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def unknown(name: str, known: Sequence[str], kind: str) -> str:
    """What is said of a name that is none of the known ones, which are names of some ``kind``."""
    guess = near(name, known)
    hint = f"did you mean {guess!r}?; " if guess else ""
    return f"unknown {kind} {name!r} ({hint}known: {', '.join(known) or 'none'})"


def _unknown_key(guess: Path | None, known: Sequence[str]) -> str:
    if guess:
        return f"unknown key (did you mean {path_text(guess)}?)"
    return f"unknown key (known here: {', '.join(known)})" if known else "unknown key"


def _text(problem: ErrorDetails, nodes: Sequence[dict[str, Any]]) -> str:
    """The message without the place, at which the schema has these nodes."""
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "missing":
        wanted = " or ".join(dict.fromkeys(filter(None, map(_described, nodes))))
        return f"missing key; add it{f' ({wanted})' if wanted else ''}"
    if kind == "value_error":
        return str(context["error"])
    if kind not in _EXPECTED:
        return f"{problem['msg'][:1].lower()}{problem['msg'][1:]}, got {_shown(value)}"
    described = next((node["description"] for node in nodes if "description" in node), None)
    if kind == "string_pattern_mismatch" and described:
        return f"{described}, got {_shown(value)}"
    several = context.get("min_length") != 1
    nouns = {"entries": "entries" if several else "entry", "characters": f"character{'s' * several}"}
    # A bound of 0 is not to read 0.0.
    words = {key: f"{item:g}" if isinstance(item, float) else item for key, item in context.items()}
    null = " or null" if any(node.get("type") == "null" for node in nodes) else ""
    wanted = _EXPECTED[kind].format(**words, **nouns) + null
    return f"expected {wanted}, got {_shown(value)}{_remedy(wanted, value)}"


def _described(node: Mapping[str, Any]) -> str:
    """What a plain schema allows: its choices, or its type."""
    choices = [node["const"]] if "const" in node else node.get("enum", [])
    return " or ".join(map(repr, choices)) if choices else _TYPES.get(node.get("type", ""), "")


def _position(path: Path, data: Any) -> tuple[int, ...]:
    """Where a path stands in the file, for sorting; what is not there comes after what is."""
    position: list[int] = []
    for part in path:
        keys = list(data) if isinstance(data, dict) else list(range(len(data))) if isinstance(data, list) else []
        if part not in keys:
            return (*position, len(keys))
        position.append(keys.index(part))
        data = data[part]
    return tuple(position)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        text = f"the text {value!r}"
    elif isinstance(value, Mapping):
        text = "a mapping"
    elif isinstance(value, list | tuple):
        text = f"the list {json.dumps(value, default=str)}" if value else "an empty list"
    else:
        text = "nothing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _remedy(wanted: str, value: Any) -> str:
    """What to write instead, where the value says what was meant."""
    if isinstance(value, str):
        if guess := near(value, re.findall(r"'([^']*)'", wanted)):
            return f" (did you mean {guess!r}?)"
        if ("number" in wanted or "than" in wanted) and (number := _number_text(value)):
            return f"; write {number}"
        if _TRUTH in wanted and value.lower() in ("true", "false"):
            return f"; write {value.lower()} without quotes"
    elif isinstance(value, bool):
        if _TEXT in wanted or "'" in wanted:
            return "; YAML takes a bare yes, no, on or off for true or false: put it in quotes"
    elif isinstance(value, int | float) and _TEXT in wanted:
        return f"; write '{value}' in quotes"
    elif value is None:
        return "; write a value after the colon"
    if _LIST in wanted and isinstance(value, str | int | float):
        return f"; write [{value}] for a list of one"
    return ""


def _number_text(text: str) -> str | None:
    """A number that YAML would read as one, if the text means one: ``1e-4`` is text, ``1.0e-4`` a number."""
    match = re.fullmatch(r"([-+]?)(\d+)(\.\d*)?(?:[eE]([-+]?)(\d+))?", text.strip().replace("_", ""))
    if not match:
        return None
    sign, whole, fraction, power_sign, power = match.groups()
    if power is None:
        return f"{sign}{whole.lstrip('0') or '0'}{fraction or ''} without quotes or leading zeros"
    number = f"{sign}{whole}{fraction if fraction and fraction != '.' else '.0'}e{power_sign or '+'}{power}"
    return f"{number} (YAML takes {text} for text)"


class _Schema:
    """A model's JSON schema, asked by path."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root = model.model_json_schema()

    def at(self, path: Path) -> list[dict[str, Any]]:
        """The plain schemas of what may stand at a path: one, and that of null where it may be null."""
        nodes = self._plain(self._root)
        for part in path:
            inner = [_child(node, part) for node in nodes]
            nodes = [plain for child in inner if isinstance(child, dict) for plain in self._plain(child)]
        return nodes

    def keys(self, path: Path) -> list[str]:
        """The keys that the mapping at a path may have by name."""
        return [key for node in self.at(path) for key in node.get("properties", {})]

    def guess(self, path: Path, data: Any) -> Path | None:
        """The path that an unknown one in ``data`` most likely meant: a near key here, or the same key elsewhere."""
        parent, key = path[:-1], str(path[-1])
        known = self.keys(parent)
        for part in parent:
            data = data[part]
        if found := near(key, [name for name in known if name not in data]) or near(key, known):
            return (*parent, found)
        return next((place for place in self._all_paths((), self._root) if place[-1] == key), None)

    def _plain(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        """The plain schemas behind a reference, or a choice of null."""
        if "$ref" in node:
            return self._plain(self._root["$defs"][node["$ref"].rpartition("/")[2]])
        return [plain for one in node["anyOf"] for plain in self._plain(one)] if "anyOf" in node else [node]

    def _all_paths(self, path: Path, node: dict[str, Any]) -> Iterator[Path]:
        """Every path of fixed keys in the schema."""
        for plain in self._plain(node):
            for key, child in plain.get("properties", {}).items():
                yield (*path, key)
                yield from self._all_paths((*path, key), child)


def _child(node: Mapping[str, Any], part: str | int) -> Any:
    if isinstance(part, int):
        return node.get("items")
    return node.get("properties", {}).get(part, node.get("additionalProperties"))
