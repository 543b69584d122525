"""Strict reading of the benchmarks' official files: JSON (plain or in a zip), JSON lines, text lines.

Text is UTF-8 or UTF-16. Whatever is wrong with a file becomes one UserError that names file and record.
"""

import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from lntune.data.archives import Members
from lntune.errors import UserError

Field = TypeVar("Field")
Record = TypeVar("Record")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# What the JSON types are called in messages.
_JSON_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    list: "a list",
    dict: "an object",
    type(None): "null",
}

_AGAIN = "; mend it, or get the file again"


class RecordError(Exception):
    """What is wrong with one record; :func:`parse_records` adds the file and the record's number."""


def read_json(path: Path) -> object:
    """The value in a ``.json`` file, or in a ``.zip`` that holds one such file (as VQAv2 is distributed)."""
    return parse_json(_only_member(path) if path.suffix == ".zip" else _read_bytes(path), path)


def parse_json(content: bytes, path: Path) -> object:
    """The value in the bytes of a JSON file; ``path`` is how messages call it."""
    return _parse_json(_decode(content, path), path)


def read_json_lines(path: Path) -> list[object]:
    """One JSON value per line; an empty line is an error, since position matches answers to questions."""
    return [_parse_json(line, path, number) for number, line in enumerate(read_lines(path), 1)]


def read_records(path: Path) -> list[object]:
    """The values of a JSON list, or of JSON lines, whichever the file holds."""
    listed = path.suffix == ".zip" or "[" in _decode(_read_bytes(path), path).lstrip()[:1]
    return records_of(read_json(path), path) if listed else read_json_lines(path)


def read_lines(path: Path) -> list[str]:
    """Lines as Python's text mode ends them (LF, CRLF, CR), without their ends; the last may lack its own."""
    text = _decode(_read_bytes(path), path).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def records_of(value: object, path: Path, key: str | None = None) -> list[object]:
    """The list of records that a file holds: its value or, with a key, what that object has under it."""
    if key is not None:
        try:
            return field(value, key, list)
        except RecordError as problem:
            raise UserError(f"{path}: {problem}{_AGAIN}") from None
    if not isinstance(value, list):
        raise UserError(f"{path}: {_kind(value)} where a list of records is expected{_AGAIN}")
    return value


def parse_records(
    records: Iterable[object], parse: Callable[[object], Record], path: Path, noun: str = "record"
) -> list[Record]:
    """Parses each record; a :class:`RecordError` becomes a UserError ``FILE: NOUN N: what is wrong``."""
    parsed = []
    for number, record in enumerate(records, 1):
        try:
            parsed.append(parse(record))
        except RecordError as problem:
            raise UserError(f"{path}: {noun} {number}: {problem}{_AGAIN}") from None
    return parsed


def field(record: object, key: str, kind: type[Field]) -> Field:
    """One field of a record, of this type (``true`` is no integer, but ``"7"`` and ``7.0`` are); RecordError if not."""
    if not isinstance(record, dict):
        raise RecordError(f"{_kind(record)} where an object with {key!r} is expected")
    if key not in record:
        raise RecordError(f"{key!r} is missing")
    value = record[key]
    if kind is int and isinstance(value, str | float) and re.fullmatch(r"\d+(\.0)?", str(value), re.ASCII):
        value = int(str(value).removesuffix(".0"))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecordError(f"{key!r} is {_kind(value)}, not {_JSON_NAMES[kind]}")
    return value


def unique(pairs: Iterable[tuple[Key, Value]], path: Path, key: str) -> dict[Key, Value]:
    """The pairs as a dict; a key that comes twice is an error, never a silent overwrite."""
    found: dict[Key, Value] = {}
    for name, value in pairs:
        if name in found:
            raise UserError(f"{path}: {key} {name!r} appears twice; remove one")
        found[name] = value
    return found


def read_by_id(
    path: Path, parse: Callable[[object], tuple[Key, Value]], noun: str, key: str, under: str | None = None
) -> dict[Key, Value]:
    """The parsed records of a JSON file (of what it has ``under`` a key), each under its id, which ``key`` names."""
    return unique(parse_records(records_of(read_json(path), path, under), parse, path, noun), path, key)


def check_same_ids(
    wanted: Mapping[Key, object], given: Mapping[Key, object], key: str, *, asked: Path, path: Path, cure: str = ""
) -> None:
    """Refuses ``path``, which holds the ids ``given``, if ``asked`` holds others (``wanted``)."""
    unknown = [name for name in given if name not in wanted]
    if unknown:
        raise UserError(f"{path}: {key} {_first(unknown)} is not in {asked}, which has {next(iter(wanted), None)!r}")
    missing = [name for name in wanted if name not in given]
    if missing:
        raise UserError(f"{path}: no record for {key} {_first(missing)} of {asked}{cure}")


def _first(names: list[Key]) -> str:
    return repr(names[0]) + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _kind(value: object) -> str:
    return _JSON_NAMES.get(type(value), type(value).__name__)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; download it, or correct its path") from None
    except OSError as problem:
        raise UserError(f"{path}: cannot be read ({problem.strerror})") from None


def _only_member(path: Path) -> bytes:
    archive = Members(path)
    names = [name for name in archive.names() if name.endswith(".json")]
    if len(names) != 1:
        raise UserError(f"{path}: holds {len(names)} .json files instead of one; give it unpacked")
    return archive.read_or_refuse(names[0])


def _decode(content: bytes, path: Path) -> str:
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as problem:
        name = encoding.upper().removesuffix("-SIG")
        raise UserError(f"{path}: not {name} text at byte {problem.start}; save it as UTF-8 text") from None


def _parse_json(text: str, path: Path, line: int | None = None) -> object:
    """Parses a whole file's text or, with its number, one line of it."""
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as problem:
        raise UserError(f"{path}: line {line or problem.lineno}: not JSON ({problem.msg}){_AGAIN}") from None
    except (ValueError, RecursionError) as problem:
        raise UserError(f"{path}: line {line or 1}: not JSON that can be read ({problem}){_AGAIN}") from None
    return value
