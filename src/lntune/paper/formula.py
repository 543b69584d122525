"""The formulas of workflow/paper/claims.yaml: what a sentence of the paper says about the cells of its tables.

    tables = Tables(read_paper(Path("workflow/paper/table2.csv")))
    formula = Formula('-gain(pick("table2", "LayerNorm", "13B scale", "Mem. (GB)"), pick("table2", "LoRA", ...))')
    formula.value(tables, {})

A formula is written like a Python expression and read with Python's parser, but nothing is executed: numbers, texts,
lists, names, the four operations, and calls of the functions listed here are all there is (docs/claims.md).

Its values know which cells they come from: :data:`Numbers` maps a :class:`Key` (group, row, column) to each. Two of
them are matched by their keys; along an axis on which one has a single entry, that goes with all of the other's.
"""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean, median
from typing import Any, NamedTuple

from lntune.paper.printed import Place, Printed

EVERY = "every"
"""In place of rows: all that have numbers."""


class FormulaError(Exception):
    """What is wrong with a formula, in a few words."""


class AbsentError(FormulaError):
    """A formula asks for a cell that the tables do not have."""


class NoNumberError(AbsentError):
    """That cell is there, and holds no number."""


class Key(NamedTuple):
    """Which cell a number comes from; empty along an axis that was averaged away."""

    group: str
    row: str
    column: str


Numbers = dict[Key, float]

Aggregate = Callable[[Sequence[float]], float]


AGGREGATES: dict[str, Aggregate] = {
    "mean": fmean,
    "median": median,
    "lowest": min,
    "highest": max,
    "total": sum,
    "count": lambda values: float(len(values)),
}

Value = float | str | tuple[str, ...] | Numbers

_OF_PARTS: dict[str, Aggregate] = {"sum": sum, "mean": fmean}
_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class Tables:
    """The figures of some tables, as formulas ask for them."""

    def __init__(self, figures: Iterable[Printed]) -> None:
        self._figures = {one.place: one for one in figures}
        self._parts: dict[tuple[str, str], dict[str, None]] = {}
        self._numeric: dict[tuple[str, str, str, str], bool] = {}
        for place, one in self._figures.items():
            self._parts.setdefault((place.table, place.column), {})[place.part] = None
            self._numeric[place[:4]] = self._numeric.get(place[:4], True) and one.number is not None

    def pick(self, table: str, rows: Value, groups: Value, columns: Value) -> Numbers:
        """Cells by table, rows ("every": all with numbers), groups and columns; AbsentError if one is no number.

        A column with parts is written with one: ``MME.perception``, or with ``.sum`` or ``.mean`` for that of all.
        AbsentError if one of the cells is not there, or is no number.
        """
        found: Numbers = {}
        for group in _texts(groups):
            for row in self._rows_of(table, group, rows, _texts(columns)):
                for column in _texts(columns):
                    found[Key(group, row, column)] = self._number(table, group, row, column)
        return found

    def printed(self, text: str, table: str, rows: Value, groups: Value, columns: Value) -> float:
        """How many of the cells are printed as ``text``."""
        wanted = [Place(table, g, r, c, "") for g in _texts(groups) for r in _texts(rows) for c in _texts(columns)]
        for place in wanted:
            if place not in self._figures:
                raise AbsentError(f"no cell {place}")
        return float(sum(self._figures[place].text == text for place in wanted))

    def _rows_of(self, table: str, group: str, rows: Value, columns: Sequence[str]) -> Sequence[str]:
        if rows != EVERY:
            return _texts(rows)
        names = [self._column(table, column)[0] for column in columns]
        known = dict.fromkeys(place.row for place in self._figures if (place.table, place.group) == (table, group))
        found = [row for row in known if all(self._numeric.get((table, group, row, name)) for name in names)]
        if not found:
            raise AbsentError(f"no cells of {table}, {group}")
        return found

    def _column(self, table: str, column: str) -> tuple[str, str]:
        """A column's title, and the part of it, or the way to join its parts, that is asked for."""
        name, _, part = (column, "", "") if (table, column) in self._parts else column.partition(".")
        return name, part

    def _number(self, table: str, group: str, row: str, column: str) -> float:
        name, part = self._column(table, column)
        if (table, name) not in self._parts:
            raise AbsentError(f"no column {name} in {table}")
        parts = [one for one in self._parts[table, name] if one]
        if parts and part not in (*parts, *_OF_PARTS):
            ways = ", ".join(f"{name}.{way}" for way in (*_OF_PARTS, *parts))
            raise FormulaError(f"{column} is not one number: write one of {ways}")
        if part and not parts:
            raise FormulaError(f"{column}: {name} has no parts in {table}")
        wanted = parts if part in _OF_PARTS else [part]
        numbers = []
        for one in wanted:
            place = Place(table, group, row, name, one)
            figure = self._figures.get(place)
            if figure is None:
                raise AbsentError(f"no cell {place}")
            if figure.number is None:
                raise NoNumberError(f"{place} is printed as {figure.text!r}, which is no number")
            numbers.append(figure.number)
        return _OF_PARTS[part](numbers) if part in _OF_PARTS else numbers[0]


def _texts(value: Value) -> tuple[str, ...]:
    if isinstance(value, str | tuple):
        return (value,) if isinstance(value, str) else value
    raise FormulaError(f"a text or a list of texts is expected, not {value}")


def matched(a: Numbers, b: Numbers) -> dict[Key, tuple[float, float]]:
    """The values of ``a``, each with the one of ``b`` that goes with it; FormulaError if one has none to go with."""
    single = [(len({key[axis] for key in a}) == 1, len({key[axis] for key in b}) == 1) for axis in range(3)]
    found: dict[Key, tuple[float, float]] = {}
    used: set[Key] = set()
    for mine, value in a.items():
        for other, partner in b.items():
            if all(mine[axis] == other[axis] or any(single[axis]) for axis in range(3)):
                # The side with several entries gives the name.
                names = [other[axis] if single[axis] == (True, False) else mine[axis] for axis in range(3)]
                found[Key(*names)] = (value, partner)
                used |= {mine, other}
    lonely = next((key for key in [*a, *b] if key not in used), None)
    if lonely is not None:
        raise FormulaError(f"there is nothing to match with {', '.join(word for word in lonely if word)}")
    return found


def gain(a: float, b: float) -> float:
    """How far ``a`` lies above ``b``, in percent of ``b``."""
    if b == 0:
        raise AbsentError("a percentage of nothing")
    return 100 * (a / b - 1)


def pairwise(function: Callable[[float, float], float], a: Numbers | float, b: Numbers | float) -> Numbers | float:
    """``function`` of single values, or of those that match."""
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: function(*pair) for key, pair in matched(a, b).items()}
    if isinstance(a, dict) or isinstance(b, dict):
        raise FormulaError("cells and a single number cannot be matched")
    return function(a, b)


def aggregate(function: Aggregate, numbers: Numbers, by: str = "") -> Numbers | float:
    """One value of all, or with ``by`` (axes with commas between: "group, column") one for each entry of these axes."""
    if not by:
        return function(list(numbers.values()))
    axes = [axis.strip() for axis in by.split(",")]
    for axis in axes:
        if axis not in Key._fields:
            raise FormulaError(f"unknown axis {axis!r} (known: {', '.join(Key._fields)})")
    grouped: dict[Key, list[float]] = {}
    for key, value in numbers.items():
        kept = Key(*(word if name in axes else "" for name, word in zip(Key._fields, key, strict=True)))
        grouped.setdefault(kept, []).append(value)
    return {key: function(values) for key, values in grouped.items()}


def row_titles(numbers: Numbers) -> Numbers:
    """The titles of the rows as numbers, where these are numbers (Table A1's learning rates)."""
    try:
        return {key: float(key.row) for key in numbers}
    except ValueError as error:
        raise FormulaError(f"row_titles: {error}") from None


def row_of_highest(numbers: Numbers) -> float:
    """The title, as a number, of the row that holds the highest value."""
    best = max(numbers, key=lambda key: numbers[key])
    return row_titles({best: 0.0})[best]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: partial(aggregate, function) for name, function in AGGREGATES.items()},
    "gain": partial(pairwise, gain),
    "points": partial(pairwise, operator.sub),
    "below": lambda numbers, bound: float(sum(value < bound for value in numbers.values())),
    "above": lambda numbers, bound: float(sum(value > bound for value in numbers.values())),
    "different": lambda a, b: float(sum(mine != other for mine, other in matched(a, b).values())),
    "missing": lambda a, b: float(sum(value not in b.values() for value in a.values())),
    "row_titles": row_titles,
    "row_of_highest": row_of_highest,
}
"""What a formula may call besides pick and printed.

"different" counts the values of ``a`` that differ from their match in ``b``, "missing" those that are nowhere in ``b``.
"""


class Formula:
    """One formula, parsed; FormulaError says what it holds that a formula must not."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise FormulaError(f"cannot be read: {getattr(error, 'msg', error)}") from None
        self._check(self._tree)

    @property
    def names(self) -> list[str]:
        """The names that it uses, each once."""
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        used = (node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name) and id(node) not in called)
        return list(dict.fromkeys(used))

    @property
    def reads_tables(self) -> bool:
        """Whether it asks for cells."""
        return any(isinstance(node, ast.Name) and node.id in ("pick", "printed") for node in ast.walk(self._tree))

    @property
    def texts(self) -> set[str]:
        """The texts in it, names of tables among them."""
        constants = (node.value for node in ast.walk(self._tree) if isinstance(node, ast.Constant))
        return {value for value in constants if isinstance(value, str)}

    @staticmethod
    def _check(tree: ast.expr) -> None:
        plain = (ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, ast.USub, ast.List, ast.Call, ast.keyword, *_OPERATIONS)
        known = [*FUNCTIONS, "pick", "printed"]
        for node in ast.walk(tree):
            constant = isinstance(node, ast.Constant) and type(node.value) in (int, float, str)
            if not constant and not isinstance(node, plain):
                raise FormulaError(f"{ast.unparse(node)!r} is not allowed in a formula")
            if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in known):
                raise FormulaError(f"unknown function {ast.unparse(node.func)!r} (known: {', '.join(known)})")

    def value(self, tables: Tables, names: Mapping[str, Value]) -> Value:
        """What it comes to on some tables, given its names; AbsentError if a cell is not there, else FormulaError."""
        functions = FUNCTIONS | {"pick": tables.pick, "printed": tables.printed}
        return self._value(self._tree, functions, names)

    def _value(self, node: ast.expr, functions: Mapping[str, Callable[..., Any]], names: Mapping[str, Value]) -> Value:
        inner = partial(self._value, functions=functions, names=names)
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else float(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            if node.id not in names:
                raise FormulaError(f"unknown name {node.id!r} (known: {', '.join(names)})")
            return names[node.id]
        if isinstance(node, ast.List):
            return tuple(text for entry in node.elts for text in _texts(inner(entry)))
        if isinstance(node, ast.UnaryOp):
            return -_number(inner(node.operand))
        if isinstance(node, ast.BinOp):
            try:
                return _OPERATIONS[type(node.op)](_number(inner(node.left)), _number(inner(node.right)))
            except ZeroDivisionError:
                raise AbsentError("a division by zero") from None
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        given = [inner(one) for one in node.args]
        named = {one.arg or "": inner(one.value) for one in node.keywords}
        try:
            found: Value = functions[node.func.id](*given, **named)
        except (TypeError, AttributeError):
            raise FormulaError(f"{ast.unparse(node)}: these are not what {node.func.id} takes") from None
        return found


def _number(value: Value) -> float:
    if isinstance(value, dict) and len(value) == 1:
        return next(iter(value.values()))
    if isinstance(value, float):
        return value
    raise FormulaError("arithmetic takes single numbers; use mean, lowest, highest or total first")
