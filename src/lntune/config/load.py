"""Read a YAML file into a settings model; any mistake is one line that names file, key, value and remedy.

    settings = load(Path("config.yaml"), Settings)

YAML is read as plain text, numbers, truth values, lists and mappings. Beyond the usual rules keys are always
text, a key may not be given twice, and neither dates nor sixtieths (``1:30``) nor octal numbers (``010``) are
guessed at: they stay text.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from operator import eq
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from lntune.config.mistakes import find_mistakes, path_text, unknown
from lntune.errors import NO_TEXT, UserError

Model = TypeVar("Model", bound=BaseModel)
Keys = tuple[str | int, ...]

_DEEPEST = 50
_EXTENDS = "extends"


def load(path: Path, model: type[Model], overrides: Mapping[str, Any] | None = None) -> Model:
    """The settings that a YAML file holds; UserError for anything that is wrong with the file or the values.

    ``overrides`` win over the file's values; they are nested or have dotted keys (``{"train.seed": 1}``).
    """
    data = read_yaml(path)
    if not data and not overrides:
        known = ", ".join(model.model_fields)
        raise UserError(f"{shown(path)}: the file is empty; it must hold keys out of: {known}")
    given: list[Keys] = []
    for key, value in (overrides or {}).items():
        given += _override(data, str(key), value)
    return validate(data, model, path, given)


def load_extending(path: Path, model: type[Model]) -> Model:
    """As :func:`load`, for a file that may build on another one of its folder: ``extends: NAME``.

    It then holds what differs. Mappings are joined key by key, and null takes an entry out of the other file's mapping;
    any other value replaces the other's. The other file must be right by itself, so that a mistake names its own file.
    """
    _, *bases = files_extended(path)
    if not bases:
        return load(path, model)
    load_extending(bases[0], model)
    joined: dict[str, Any] = {}
    for file in reversed([path, *bases]):
        joined = _join(joined, {key: value for key, value in read_yaml(file).items() if key != _EXTENDS})
    return validate(joined, model, path)


def files_extended(path: Path) -> list[Path]:
    """A file, the file that it extends, and so on; UserError where one is missing, or extends itself."""
    files = [path]
    while (name := read_yaml(files[-1]).get(_EXTENDS)) is not None:
        base = files[-1].with_name(f"{name}.yaml")
        if not base.is_file():
            raise unknown_name(
                files[-1], _EXTENDS, str(name), sorted(p.stem for p in path.parent.glob("*.yaml")), "file"
            )
        if base in files:
            raise UserError(f"{shown(files[-1])}: {_EXTENDS}: {name} is built on this file itself; name another")
        files.append(base)
    return files


def _join(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(base)
    for key, value in changes.items():
        before = joined.get(key)
        if isinstance(before, dict | list) and value is None:
            del joined[key]
        else:
            joined[key] = _join(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return joined


def validate(data: Mapping[str, Any], model: type[Model], file: Path, overridden: Iterable[Keys] = ()) -> Model:
    """Nested plain values, as :func:`read_yaml` returns them, as a model.

    UserError names ``file``, or the override where it is one, the first mistake and the number of the others.
    """
    _refuse_unsupported(data, (), file)
    try:
        # As JSON, so that strict models take lists for tuples and text for paths and enums.
        return model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        (path, text), *others = find_mistakes(error, data, model)
        where = f"{path_text(path)}: " if path else ""
        given = path and any(all(map(eq, path, one)) for one in overridden)
        origin = " [given as an override]" if given else ""
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{shown(file)}: {where}{text}{origin}{more}") from error


def unknown_name(file: Path, key: str, value: str, known: Iterable[str], kind: str) -> UserError:
    """The error, to be raised, for a file's dotted key that uses a name of some ``kind`` ("method") that is none."""
    return UserError(f"{shown(file)}: {key}: {unknown(value, list(known), kind)}")


def shown(file: Path) -> str:
    """A file's path as people expect to read it: relative if it lies below the working directory."""
    path = Path(os.path.abspath(file))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(file)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, empty for an empty file; UserError if it cannot be read or holds another."""
    name = shown(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{name}: no such file; `git restore` brings back what the repository holds") from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _check_keys(node, (), name, set())
        data = {} if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise UserError(f"{name}: {_syntax_message(error, text)}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(f"{name}: expected a mapping (key: value), got a {type(data).__name__}")
    return data


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain types only. PyYAML's own parser where it was built without libyaml."""


_TAG = "tag:yaml.org,2002:"
_MERGE, _TEXT, _INT, _FLOAT, _TIME = (_TAG + name for name in ("merge", "str", "int", "float", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT, _TIME)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _check_keys(node: yaml.Node, path: Keys, file: str, seen: set[int]) -> None:
    """Make every key text (but for ``<<``), and refuse one that its mapping has already."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check_keys(item, (*path, index), file, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            here = (*path, key.value)
            if key.value in lines:
                both = f"lines {lines[key.value]} and {line}"
                raise UserError(f"{file}: {path_text(here)}: key given twice ({both}); keep one")
            lines[key.value] = line
            key.tag = key.tag if key.tag == _MERGE else _TEXT
            _check_keys(value, here, file, seen)


def _syntax_message(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return f"not valid YAML: {problem}"
    before = "".join(text.splitlines()[mark.line : mark.line + 1])[: mark.column + 1]
    remedy = "; indent with spaces, not tabs" if "\t" in before else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: not valid YAML: {problem}{remedy}"


def _override(data: dict[str, Any], key: str, value: Any) -> list[Keys]:
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


def _refuse_unsupported(value: Any, path: Keys, file: Path) -> None:
    """Refuse what settings cannot hold: numbers that are not finite, tagged YAML objects, endless nesting."""
    problem = None
    if len(path) > _DEEPEST:
        problem, path = "nested too deeply (does it contain itself?)", path[:1]
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unsupported(key, (*path, key), file)
            _refuse_unsupported(item, (*path, key), file)
    elif isinstance(value, str) and (bad := NO_TEXT.search(value.replace("\r", "\0"))):
        problem = f"holds {value[bad.start()]!a}, which neither CSV nor SVG can hold as text"
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unsupported(item, (*path, index), file)
    elif isinstance(value, float) and not math.isfinite(value):
        problem = f"expected a finite number, got {value}"
    elif value is not None and not isinstance(value, str | int | float):
        problem = f"expected text, a number, a truth value, a list or a mapping, got a {type(value).__name__}"
    if problem:
        raise UserError(f"{shown(file)}: {path_text(path)}: {problem}")
