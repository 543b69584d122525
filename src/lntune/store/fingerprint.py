"""The fingerprint of the code that makes a result, and the versions of the packages that it runs on.

A fingerprint covers a stage's module and everything of its own package that this imports, directly or not, at the top
or inside a function. Each module counts as its syntax tree without comments, docstrings, layout and position, so
that only an edit which can change a result changes the fingerprint. A module that is imported by a computed
name is not seen: stages must not do that.

What that takes a quarter of a second to find out is cached between processes (docs/provenance.md).
"""

import ast
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from blake3 import blake3

from lntune.errors import UserError
from lntune.files import write_whole


def versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution, by name in sorted order; UserError if one is not installed."""
    return {name: _version(name) for name in sorted(names)}


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"package {name!r} is not installed; install the project's requirements") from error


def code_fingerprint(module: str) -> dict[str, str]:
    """The digest of every module that ``module`` runs on, by name, itself included, as it is when first looked at.

    Raises UserError if a source file does not parse, and ValueError if there is no such module.
    """
    return _package(module.partition(".")[0]).fingerprint(module)


def raw_digest(package: str) -> str:
    """BLAKE3 over the bytes of a package's source files, in a few milliseconds; equal: no fingerprint has changed."""
    folder = str(_folder_of(package))
    hasher = blake3()
    # As the import graph is built: a folder that is a link counts.
    paths = [os.path.join(inside, name) for inside, _, names in os.walk(folder, followlinks=True) for name in names]
    for path in sorted(path for path in paths if path.endswith(".py")):
        content = Path(path).read_bytes()
        hasher.update(f"{os.path.relpath(path, folder)}\0{len(content)}\0".encode())
        hasher.update(content)
    return hasher.hexdigest()


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} is not an importable package")
    # From the package that Python would import, be it a checkout or an installed copy.
    return Path(next(iter(spec.submodule_search_locations)))


class PackageCode:
    """The source of one importable package as it is now: who imports whom, and what each module says."""

    def __init__(self, name: str) -> None:
        self._folder = _folder_of(name)
        key = _key(name)
        code = read_cached("code", key)
        if code is None:
            code = {"imports": _imports(name), "digests": {}}
            for module in code["imports"]:
                with suppress(UserError, OSError):  # whoever asks for that module gets the error
                    code["digests"][module] = source_digest(self._file(module))
            if key == _key(name):  # else a file was edited in the meantime, and may have been read before or after
                write_cached("code", key, code)
        self._imports: dict[str, list[str]] = code["imports"]
        self._digests: dict[str, str | None] = code["digests"]

    def fingerprint(self, module: str) -> dict[str, str]:
        """As :func:`code_fingerprint`; modules without code, such as an empty ``__init__``, are left out."""
        if module not in self._imports:
            raise ValueError(f"there is no module {module} in {self._folder}")
        digests = {name: self._digest(name) for name in sorted(self.closure(module))}
        return {name: text for name, text in digests.items() if text is not None}

    def closure(self, module: str) -> set[str]:
        """The module, all that it imports, and the packages that Python runs on the way to each of them."""
        found: set[str] = set()
        open_ends = [module]
        while open_ends:
            name = open_ends.pop()
            if name not in found:
                found.add(name)
                open_ends += self._imports[name]
                if "." in name:
                    open_ends.append(name.rpartition(".")[0])
        return found

    def _digest(self, module: str) -> str | None:
        if module not in self._digests:
            self._digests[module] = source_digest(self._file(module))
        return self._digests[module]

    def _file(self, module: str) -> Path:
        path = self._folder.joinpath(*module.split(".")[1:])
        package = path / "__init__.py"
        return package if package.is_file() else path.with_name(path.name + ".py")


_package = cache(PackageCode)


def _key(package: str) -> str:
    """The hash of all that imports and digests follow from: the package's files, this module, and what parses."""
    ours = Path(__file__).read_text(encoding="utf-8")
    parts = [package, raw_digest(package), sys.version, *versions(["grimp"]).values(), ours]
    return blake3("\0".join(parts).encode()).hexdigest()


def _imports(package: str) -> dict[str, list[str]]:
    """Each module of a package, and those of the package that it imports; UserError if one does not parse."""
    import grimp
    from grimp.exceptions import SourceSyntaxError

    try:
        # Imports for the type checker never run. No cache of grimp's: it would be left in the user's checkout.
        graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    except SourceSyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: does not parse as Python; correct it") from error
    return {name: sorted(graph.find_modules_directly_imported_by(name)) for name in sorted(graph.modules)}


def source_digest(path: Path) -> str | None:
    """BLAKE3 of what a source file means; None for a file without any code. UserError if it does not parse."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UserError(f"{path}:{line}: does not parse as Python ({error}); correct it") from error
    words: list[str] = []
    _write(tree, words)
    return blake3("\0".join(words).encode("ascii")).hexdigest() if tree.body else None


def _write(node: object, words: list[str]) -> None:
    """Append a node's type and its fields that are set, depth first.

    In place of ``ast.dump``: half its time, and the same text from every Python version that parses the file alike,
    because fields that a newer version adds are absent when they are empty.
    """
    if not isinstance(node, ast.AST):
        words.append(ascii(node))
        return
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        match node.body:
            case [ast.Expr(value=ast.Constant(value=str())), *_]:  # its docstring
                del node.body[0]
    words.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "kind" or (value is None and name != "value"):
            continue  # kind tells u"" from "" and nothing else
        if isinstance(value, list):
            if name == "body":
                value = [item for item in value if not isinstance(item, ast.Pass)]
            if value:
                words.extend((name, "["))
                for item in value:
                    _write(item, words)
                words.append("]")
        else:
            words.append(name)
            _write(value, words)
    words.append(")")


NEWEST = 20
"""How many values of a kind are cached."""


def read_cached(kind: str, key: str) -> Any | None:
    """The JSON value under a key, a hash of everything it follows from; None if there is none, or it was damaged."""
    try:
        check, _, text = _cached_path(kind, key).read_text(encoding="utf-8").partition("\n")
        return json.loads(text) if check == _check(key, text) else None
    except (OSError, RuntimeError, ValueError):
        return None


def write_cached(kind: str, key: str, value: Any) -> None:
    """Cache a JSON value, and drop the oldest; where that is not possible, do nothing."""
    with suppress(OSError, RuntimeError):
        path, text = _cached_path(kind, key), json.dumps(value, separators=(",", ":"))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, f"{_check(key, text)}\n{text}")
        newest_first = sorted(path.parent.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in newest_first[NEWEST:]:
            old.unlink(missing_ok=True)


def _cached_path(kind: str, key: str) -> Path:
    """RuntimeError where there is no home folder."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return folder / "lntune" / kind / key


def _check(key: str, text: str) -> str:
    return blake3(f"{key}\n{text}".encode()).hexdigest()
