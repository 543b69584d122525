"""What pydantic finds wrong with a config, in words for the person who wrote the file.

It knows no setting by name: all is taken from the model's JSON schema, the values and pydantic's errors.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

_LONGEST_VALUE = 60
_DEEPEST = 5  # how far a model may contain itself when all its keys are listed
_WHOLE, _NUMBER, _TEXT, _TRUTH = "a whole number", "a number", "text", "true or false"
_LIST, _MAPPING, _NULL = "a list", "a mapping (key: value)", "null"
_TYPES = {
    "integer": _WHOLE, "number": _NUMBER, "string": _TEXT, "boolean": _TRUTH, "array": _LIST, "object": _MAPPING,
    "null": _NULL,
}  # fmt: skip
# What each of pydantic's errors would have accepted; fields in braces come from the error's context.
_EXPECTED = {
    "int_type": _WHOLE, "int_from_float": _WHOLE, "float_type": _NUMBER, "string_type": _TEXT, "bool_type": _TRUTH,
    "list_type": _LIST, "tuple_type": _LIST, "dict_type": _MAPPING, "model_type": _MAPPING, "none_required": _NULL,
    "path_type": "a path", "literal_error": "{expected}", "enum": "{expected}",
    "greater_than": "more than {gt}", "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}", "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} {entries}", "string_too_short": "at least {min_length} {characters}",
    "string_pattern_mismatch": "text of the form {pattern}",
}  # fmt: skip


class Mistake(NamedTuple):
    """One thing to correct: where it is, and the line that says so."""

    path: Path
    text: str


def find_mistakes(error: ValidationError, data: Mapping[str, Any], model: type[BaseModel]) -> list[Mistake]:
    """Every mistake once, in the order of the file; keys that are absent come last in their mapping.

    Args:
        error: what validating ``data`` raised.
        data: the nested values as they were written.
        model: what they were to become.
    """
    schema = _Schema(model, data)
    problems = _merge_unions([_Problem.of(details, data) for details in error.errors(include_url=False)])
    # A list may count as too short only because entries of it are wrong.
    places = [problem.path for problem in problems]
    problems = [one for one in problems if one.kind != "too_short" or not any(_is_below(p, one.path) for p in places)]
    meant = {problem.path: schema.guess(problem.path) for problem in problems if problem.kind == "extra_forbidden"}
    found = [Mistake(path, _unknown_key(path, guess, schema)) for path, guess in meant.items()]
    for problem in problems:
        misspelt = problem.kind == "missing" and problem.path in meant.values()
        if problem.path not in meant and not misspelt:
            found.append(Mistake(problem.path, problem.text(schema)))
    return sorted(found, key=lambda mistake: _position(mistake.path, data))


def path_text(path: Sequence[str | int]) -> str:
    """A place in a config as it is written in messages: ``tables[2].rows``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def near(word: str, known: Sequence[str]) -> str | None:
    """The name that was most likely meant, if any is near; capitals do not count."""
    lowered = {name.lower(): name for name in reversed(known)}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


class _Problem(NamedTuple):
    """One of pydantic's errors, with its place in the data rather than in pydantic's tree of validators."""

    kind: str
    path: Path
    branch: tuple[Path, str] | None  # the place of the first union on the way, and the alternative in it
    value: Any
    expected: tuple[str, ...]
    message: str

    @classmethod
    def of(cls, details: ErrorDetails, data: Mapping[str, Any]) -> "_Problem":
        kind, loc, value = details["type"], details["loc"], details["input"]
        context: dict[str, Any] = details.get("ctx", {})
        if kind == "missing":
            path, branch = _place(loc[:-1], data, value)
            path = (*path, loc[-1])
        elif loc and loc[-1] == "[key]":
            path, branch = (*_place(loc[:-2], data, None)[0], loc[-2]), None
        else:
            path, branch = _place(loc, data, value)
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            tag = context["discriminator"].strip("'")
            path, value = (*path, tag), value.get(tag)
            kind = "literal_error" if kind == "union_tag_invalid" else "missing"
            context = {"expected": context.get("expected_tags", "").replace("', '", "' or '")}
        expected: tuple[str, ...] = ()
        if kind in _EXPECTED:
            several = context.get("min_length") != 1
            nouns = {"entries": "entries" if several else "entry", "characters": f"character{'s' * several}"}
            # A bound of 0 is not to read 0.0.
            words = {key: f"{item:g}" if isinstance(item, float) else item for key, item in context.items()}
            expected = (_EXPECTED[kind].format(**words, **nouns),)
        message = str(context["error"]) if kind == "value_error" else details["msg"]
        return cls(kind, path, branch, value, expected, message)

    def text(self, schema: "_Schema") -> str:
        """The message without the place."""
        if self.kind == "missing":
            wanted = schema.describe(self.path)
            return f"missing key; add it{f' ({wanted})' if wanted else ''}"
        if self.kind in ("value_error", "assertion_error"):
            return self.message
        if not self.expected:
            return f"{self.message[:1].lower()}{self.message[1:]}, got {_shown(self.value)}"
        nodes = schema.at(self.path)
        described = next((node["description"] for node in nodes if "description" in node), None)
        if self.kind == "string_pattern_mismatch" and described:
            return f"{described}, got {_shown(self.value)}"
        null = (_NULL,) if any(node.get("type") == "null" for node in nodes) else ()
        wanted = " or ".join(dict.fromkeys((*self.expected, *null)))
        return f"expected {wanted}, got {_shown(self.value)}{_remedy(wanted, self.value)}"


def _place(loc: Path, data: Any, value: Any) -> tuple[Path, tuple[Path, str] | None]:
    """The path in the data that pydantic's location means, and the first alternative of a union on it.

    A location also names the alternatives that were tried, between the keys. What the data has under a key of
    that name decides which is which, and the value that pydantic complains of settles what is left in doubt.
    """
    candidates = list(_walk(loc, data, ()))
    for path, found, branch in candidates:
        if found is value or (type(found) is type(value) and found == value):
            return path, branch
    return candidates[0][0], candidates[0][2]


def _walk(
    loc: Path, data: Any, path: Path, branch: tuple[Path, str] | None = None
) -> Iterator[tuple[Path, Any, tuple[Path, str] | None]]:
    if not loc:
        yield path, data, branch
        return
    head, rest = loc[0], loc[1:]
    if head in _keys(data):
        yield from _walk(rest, data[head], (*path, head), branch)
    yield from _walk(rest, data, path, branch or (path, str(head)))


def _keys(data: Any) -> list[str | int]:
    """The keys of a mapping, or the indices of a list."""
    return list(data) if isinstance(data, dict) else list(range(len(data))) if isinstance(data, list) else []


def _is_below(path: Path, parent: Path) -> bool:
    return len(path) > len(parent) and path[: len(parent)] == parent


def _position(path: Path, data: Any) -> tuple[int, ...]:
    """Where a path stands in the file, for sorting; what is not there comes after what is."""
    position: list[int] = []
    for part in path:
        keys = _keys(data)
        if part not in keys:
            return (*position, len(keys))
        position.append(keys.index(part))
        data = data[part]
    return tuple(position)


def _merge_unions(problems: list[_Problem]) -> list[_Problem]:
    """Of the alternatives of each union keep the one that fits best; join those that do not fit at all."""
    found = [problem for problem in problems if problem.branch is None]
    unions: dict[Path, dict[str, list[_Problem]]] = {}
    for problem in problems:
        if problem.branch is not None:
            unions.setdefault(problem.branch[0], {}).setdefault(problem.branch[1], []).append(problem)
    for path, alternatives in unions.items():
        fitting = [several for several in alternatives.values() if any(one.path != path for one in several)]
        if fitting:
            best = min(fitting, key=len)
            found += best
            continue
        every = [one for several in alternatives.values() for one in several]
        first = next((one for one in every if not one.expected), every[0])
        found.append(first._replace(expected=tuple(word for one in every for word in one.expected)))
    return found


def _unknown_key(path: Path, guess: Path | None, schema: "_Schema") -> str:
    if guess:
        return f"unknown key (did you mean {path_text(guess)}?)"
    known = schema.keys(path[:-1])
    if path[-1] in known:  # in another alternative of a union
        return "this key does not go with the others beside it"
    return f"unknown key (known here: {', '.join(known)})" if known else "unknown key"


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
    """A model's JSON schema, asked by path. The data say which of several alternatives is meant."""

    def __init__(self, model: type[BaseModel], data: Mapping[str, Any]) -> None:
        self._model, self._data = model, data

    @cached_property
    def _root(self) -> dict[str, Any]:
        return self._model.model_json_schema()

    def at(self, path: Path) -> list[dict[str, Any]]:
        """The plain schemas of what may stand at a path."""
        data: Any = self._data
        nodes = self._alternatives(self._root, data)
        for part in path:
            data = _inside(data, part)
            inner = [child for node in nodes if (child := _child(node, part)) is not None]
            nodes = [one for child in inner for one in self._alternatives(child, data)]
        return nodes

    def keys(self, path: Path) -> list[str]:
        """The keys that the mapping at a path may have by name."""
        return list(dict.fromkeys(key for node in self.at(path) for key in node.get("properties", {})))

    def describe(self, path: Path) -> str:
        """What belongs at a path: its choices, or its type."""
        words = []
        for node in self.at(path):
            choices = [node["const"]] if "const" in node else node.get("enum", [])
            words.append(" or ".join(map(repr, choices)) if choices else _TYPES.get(node.get("type", ""), ""))
        return " or ".join(dict.fromkeys(filter(None, words)))

    def guess(self, path: Path) -> Path | None:
        """The path that an unknown one most likely meant: a near key here, or the same key elsewhere."""
        parent, key = path[:-1], str(path[-1])
        known = self.keys(parent)
        if key in known:  # it belongs to another alternative of a union
            return None
        given: Any = self._data
        for part in parent:
            given = _inside(given, part)
        if found := near(key, [name for name in known if name not in given]) or near(key, known):
            return (*parent, found)
        elsewhere = self._all_paths((), self._root, 0)
        return next((place for place in elsewhere if place[-1] == key and place != path), None)

    def _alternatives(self, node: dict[str, Any], data: Any) -> list[dict[str, Any]]:
        """The plain schemas behind references and unions, without those that a tag in the data rules out."""
        if "$ref" in node:
            return self._alternatives(self._root["$defs"][node["$ref"].rpartition("/")[2]], data)
        if several := node.get("anyOf") or node.get("oneOf") or node.get("allOf"):
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
    return data[part] if part in _keys(data) else None
