"""Read a YAML file into a settings model; any mistake is one line that names file, key, value and remedy.

    settings = load(Path("config.yaml"), Settings)

YAML is read as plain text, numbers, truth values, lists and mappings. Beyond the usual rules keys are always
text, a key may not be given twice, and neither dates nor sixtieths (``1:30``) nor octal numbers (``010``) are
guessed at: they stay text.

libyaml parses, several times as fast as PyYAML's own parser, where both are known to read the same; PyYAML's reads the
rest, and every file with a mistake, so that messages are always its.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from operator import eq
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.composer import Composer

from lntune.config.mistakes import find_mistakes, near, path_text
from lntune.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

_DEEPEST = 50


def load(path: Path, model: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """The settings that a YAML file holds.

    Args:
        path: the file.
        model: what it must be.
        overrides: values that win over the file's, nested or with dotted keys (``{"train.seed": 1}``).

    Raises:
        UserError: anything that is wrong with the file or the values.
    """
    data = read_yaml(path)
    if not data and not overrides:
        known = ", ".join(model.model_fields)
        raise UserError(f"{shown(path)}: the file is empty; it must hold keys out of: {known}")
    given: list[tuple[str, ...]] = []
    for key, value in (overrides or {}).items():
        given += _override(data, str(key), value)
    return validate(data, model, path, given)


def validate(
    data: Mapping[str, Any], model: type[Model], file: Path, overridden: Iterable[tuple[str, ...]] = ()
) -> Model:
    """Values that are not checked yet, as a model.

    Args:
        data: nested plain values, as :func:`read_yaml` returns them.
        model: what they must be.
        file: where they come from, for the message.
        overridden: paths of the values that do not come from the file.

    Raises:
        UserError: the first mistake in the file's order, and the number of the others.
    """
    _refuse_strangers(data, (), file)
    try:
        # As JSON, so that strict models take lists for tuples and text for paths and enums.
        return model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first, *others = find_mistakes(error, data, model)
        where = f"{path_text(first.path)}: " if first.path else ""
        given = first.path and any(all(map(eq, first.path, path)) for path in overridden)
        origin = " [given as an override]" if given else ""
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{shown(file)}: {where}{first.text}{origin}{more}") from error


def unknown_name(file: Path, key: str, value: str, known: Iterable[str], kind: str) -> UserError:
    """The error for a name that nothing bears, to be raised by the caller.

    Args:
        file: the file that uses the name.
        key: where in the file, dotted.
        value: the name.
        known: the names there are.
        kind: what they are names of ("method").
    """
    names = list(known)
    guess = near(value, names)
    hint = f"did you mean {guess!r}?; " if guess else ""
    listed = ", ".join(names) or "none"
    return UserError(f"{shown(file)}: {key}: unknown {kind} {value!r} ({hint}known: {listed})")


def shown(file: Path) -> str:
    """A file's path as people expect to read it: relative if it lies below the working directory."""
    path = Path(os.path.abspath(file))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(file)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; empty for an empty file.

    Raises:
        UserError: the file cannot be read, is not valid YAML, or holds something else than a mapping.
    """
    name = shown(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{name}: no such file") from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    try:
        data = _read_quickly(text)
    except _DuplicateKey as error:
        raise UserError(f"{name}: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{name}: {_syntax_message(error)}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{name}: expected a mapping (key: value), got a {type(data).__name__}")
    return data


class _DuplicateKey(yaml.YAMLError):
    """A key that a mapping holds twice."""


class _Composer(Composer):
    """What is read otherwise than PyYAML does (the module's docstring), whoever parses."""

    _path: list[str | int]

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML, and keep track of where in the file we are."""
        inside = index is not None  # else it is the document itself, or a key
        if inside:
            self._path.append(index.value if isinstance(index, yaml.ScalarNode) else index)
        node = super().compose_node(parent, index)
        if inside:
            self._path.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As PyYAML, with keys as text and each key once. Merged mappings (``<<``) come in later."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        pairs = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in lines:
                place = path_text((*self._path, key.value))
                both = f"lines {lines[key.value]} and {line}"
                raise _DuplicateKey(f"{place}: key given twice ({both}); keep one")
            lines[key.value] = line
            tag = key.tag if key.tag == "tag:yaml.org,2002:merge" else "tag:yaml.org,2002:str"
            pairs.append((yaml.ScalarNode(tag, key.value, key.start_mark, key.end_mark), value))
        node.value = pairs
        return node


class _Loader(_Composer, yaml.SafeLoader):
    """Plain types only, parsed by PyYAML."""

    def __init__(self, stream: str) -> None:
        yaml.SafeLoader.__init__(self, stream)
        self._path = []


_SafeLoader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _QuickLoader(_Composer, _SafeLoader):  # type: ignore[misc, valid-type]
    """The same, parsed by libyaml where PyYAML was built with it."""

    def __init__(self, stream: str) -> None:
        _SafeLoader.__init__(self, stream)
        Composer.__init__(self)
        self._path = []


_READ_OTHERWISE = re.compile(r"[^\n -~]|[?!]|[|>][-+0-9]*#|^(?:%|---|\.\.\.)", re.MULTILINE)
"""Where the two parsers differ, or may: tabs, other scripts, ``?`` in a word of a list, ``!`` alone, ``>#``."""


def _read_quickly(text: str) -> Any:
    """As ``yaml.load(text, _Loader)``."""
    if not _READ_OTHERWISE.search(text):
        with suppress(yaml.YAMLError):
            return yaml.load(text, _QuickLoader)
    return yaml.load(text, _Loader)


_GUESSED = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "int", "float")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _GUESSED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)
_QuickLoader.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _syntax_message(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"not valid YAML: {error}"
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = (error.problem or error.context or "cannot be parsed").replace("\t", "\\t")
    remedy = "; indent with spaces, not tabs" if "\\t" in problem else ""
    return f"{where}not valid YAML: {problem}{remedy}"


def _override(data: dict[str, Any], key: str, value: Any) -> list[tuple[str, ...]]:
    """Set one value in nested ``data``; returns the paths that were set."""
    present = [name for name in data if f"{key}.".startswith(f"{name}.")]  # a name may hold dots itself
    head = max(present, key=len, default=key.partition(".")[0])
    dot, rest = key[len(head) : len(head) + 1], key[len(head) + 1 :]
    if not dot and not isinstance(value, Mapping):
        data[head] = value
        return [(head,)]
    inner = data.get(head)
    if not isinstance(inner, dict):
        inner = data[head] = {}
    items = {rest: value} if dot else {str(name): item for name, item in value.items()}
    return [(head, *path) for name, item in items.items() for path in _override(inner, name, item)]


def _refuse_strangers(value: Any, path: tuple[str | int, ...], file: Path) -> None:
    """Refuse what settings cannot hold: numbers that are not finite, tagged YAML objects, endless nesting."""
    problem = None
    if len(path) > _DEEPEST:
        problem, path = "nested too deeply (does it contain itself?)", path[:1]
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_strangers(item, (*path, key), file)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_strangers(item, (*path, index), file)
    elif isinstance(value, float) and not math.isfinite(value):
        problem = f"expected a finite number, got {value}"
    elif value is not None and not isinstance(value, str | int | float):
        problem = f"expected text, a number, a truth value, a list or a mapping, got a {type(value).__name__}"
    if problem:
        raise UserError(f"{shown(file)}: {path_text(path)}: {problem}")
