"""``workflow/paper/claims.yaml``: whether the paper's sentences follow from its tables, and what ours say instead.

    found = assess(claims, paper=Tables(...), ours=Tables(...))
    found[0].paper, found[0].agrees, found[0].ours

A claim has one line for each reading: each of its formulas, for each choice of what ``vary`` leaves open.
docs/claims.md says by which rule a value agrees.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation
from itertools import groupby, product
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lntune.config import Frozen
from lntune.errors import UserError
from lntune.paper.formula import AbsentError, Formula, FormulaError, NoNumberError, Tables, Value

Relation = Literal["equal", "about", "over", "at least", "at most", "under"]
Kind = Literal["relative", "points", "share", "amount", "ratio", "count", "setting"]


def _is_number(text: str) -> str:
    with suppress(InvalidOperation):
        if Decimal(text).is_finite():
            return text
    raise ValueError(f"expected a number in quotes, as the paper prints it, got {text!r}")


Figure = Annotated[str, AfterValidator(_is_number)]


class Claim(Frozen):
    """One sentence: where it stands, which number it says, and the formulas that may be meant.

    A claim that no sentence makes, but that follows if the paper's tables describe the same models, is ``implied``.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    place: str
    claim: str
    kind: Kind
    relation: Relation = "equal"
    value: Figure
    unit: str = ""
    implied: bool = False
    vary: dict[str, tuple[str, ...]] = Field(default={}, strict=False, description="name to the names it stands for")
    let: dict[str, str] = Field(default={}, description="name to a formula")
    readings: dict[str, str] = Field(default={}, description="what is meant to the formula for it")
    beyond: tuple[str, ...] = Field(
        default=(), strict=False, description="readings, and choices of `vary`, that the sentence does not say in words"
    )
    note: str = ""

    @property
    def claimed(self) -> str:
        """The claimed number in words."""
        unit = self.unit if self.unit in ("", "%") else f" {self.unit}"
        return f"{'' if self.relation == 'equal' else f'{self.relation} '}{self.value}{unit}"


class Claims(Frozen):
    """The file."""

    unprinted: tuple[str, ...] = Field(strict=False, description="figures whose numbers the paper does not print")
    constants: dict[str, float] = Field(strict=False, description="numbers that formulas may use by name")
    names: dict[str, tuple[str, ...]] = Field(strict=False, description="lists of rows, groups and columns, by name")
    claims: tuple[Claim, ...] = Field(min_length=1, strict=False)


FILE = "workflow/paper/claims.yaml"

YES, CUT, NO, UNKNOWN = "yes", "cut off", "no", ""

_EXTRA_DIGITS = 2


@dataclass(frozen=True)
class Reading:
    """One reading of one claim: its name (empty without a formula), and whether the sentence says it in words.

    ``paper`` and ``ours`` are what the tables yield, None if they do not print what is needed; whether that is what is
    claimed: yes, "cut off", no, or nothing. ``missing`` is the cell of ours that the reading needs and that has no
    number, and what it has.
    """

    claim: Claim
    name: str
    formula: str
    worded: bool
    paper: float | None
    agrees: str
    ours: float | None
    ours_agrees: str
    missing: str = ""

    def shown(self, value: float | None) -> str:
        """A value with two digits more than the claim has, so that one sees how it was rounded."""
        if value is None:
            return ""
        if self.claim.kind == "count" and value == int(value):
            return str(int(value))
        digits = _decimals(self.claim.value)
        return f"{value:.3g}" if "e" in self.claim.value.lower() else f"{value:.{digits + _EXTRA_DIGITS}f}"


def _decimals(text: str) -> int:
    return max(0, -int(Decimal(text).as_tuple().exponent))


def agreement(claim: Claim, value: float | None) -> str:
    """Whether a value is what is claimed."""
    if value is None:
        return UNKNOWN
    claimed = Decimal(claim.value)
    unit = Decimal(1).scaleb(-_decimals(claim.value))
    # 12 digits are more than any table carries, and hide what binary fractions add.
    exact = Decimal(f"{value:.12g}")
    rounded = exact.quantize(unit, ROUND_HALF_UP)
    if claim.relation in ("equal", "about"):
        return YES if rounded == claimed else CUT if exact.quantize(unit, ROUND_DOWN) == claimed else NO
    keeps = {
        "over": exact > claimed,
        "at least": rounded >= claimed,
        "under": exact < claimed,
        "at most": rounded <= claimed,
    }
    return YES if keeps[claim.relation] else NO


def assess(claims: Claims, *, paper: Tables, ours: Tables) -> list[Reading]:
    """Every reading of every claim; UserError if a formula is broken, or asks the paper for what it does not have."""
    for name, number in Counter(claim.id for claim in claims.claims).items():
        if number > 1:
            raise UserError(f"{FILE}: {name}: two claims bear this id; rename one")
    return [reading for claim in claims.claims for reading in _readings(claims, claim, paper, ours)]


def _readings(claims: Claims, claim: Claim, paper: Tables, ours: Tables) -> Iterator[Reading]:
    if not claim.readings:
        yield Reading(claim, "", "", True, None, UNKNOWN, None, UNKNOWN)
    known = [*claim.readings, *(chosen for choices in claim.vary.values() for chosen in choices)]
    for name in claim.beyond:
        if name not in known:
            raise UserError(f"{FILE}: {claim.id}: beyond: {name!r} is none of {', '.join(known)}")
    for title, text in claim.readings.items():
        where = f"{FILE}: {claim.id}: reading {title!r}"
        try:
            formula = Formula(text)
            let = {name: Formula(part) for name, part in claim.let.items()}
            choices = _choices(claim, _used(formula, let))
            values = [_value(claims, formula, let, choice, paper) for choice in choices]
        except FormulaError as error:
            raise UserError(f"{where}: {error}") from None
        for choice, value in zip(choices, values, strict=True):
            own, missing = None, ""
            try:
                own = _value(claims, formula, let, choice, ours, missing=True)
            except NoNumberError as error:
                missing = str(error)
            except AbsentError:
                pass
            except FormulaError as error:
                raise UserError(f"{where}, on our tables: {error}") from None
            name = "; ".join([title, *(chosen.replace("_", " ") for chosen in choice.values())])
            written = _written(claim, text, choice)
            worded = not {title, *choice.values()} & set(claim.beyond)
            agrees, own_agrees = agreement(claim, value), agreement(claim, own)
            yield Reading(claim, name, written, worded, value, agrees, own, own_agrees, missing)


def _used(formula: Formula, let: Mapping[str, Formula]) -> set[str]:
    """The names that a formula uses, itself or by way of ``let``."""
    used: set[str] = set()
    waiting = set(formula.names)
    while waiting:
        used |= waiting
        waiting = {inner for name in waiting if name in let for inner in let[name].names} - used
    return used


def _choices(claim: Claim, used: set[str]) -> list[dict[str, str]]:
    """What the names that vary may stand for, of those that the formula uses."""
    names = [name for name in claim.vary if name in used]
    return [dict(zip(names, chosen, strict=True)) for chosen in product(*(claim.vary[name] for name in names))]


def _written(claim: Claim, text: str, choice: Mapping[str, str]) -> str:
    parts = [f"{name} = {formula}" for name, formula in [*choice.items(), *claim.let.items()]]
    return f"{text} where {', '.join(parts)}" if parts else text


def _value(
    claims: Claims,
    formula: Formula,
    let: Mapping[str, Formula],
    choice: Mapping[str, str],
    tables: Tables,
    missing: bool = False,
) -> float | None:
    """A formula's value on some tables; None if the paper's tables lack a cell that the file says to be unprinted.

    Where cells may be ``missing`` (ours), the caller is told which by AbsentError.
    """
    used = _used(formula, let)
    if missing and not any(one.reads_tables for one in (formula, *(let[name] for name in let if name in used))):
        return None  # a computation from constants is no result of ours
    names: dict[str, Value] = {**claims.constants, **claims.names}
    for name, chosen in choice.items():
        if chosen not in claims.names:
            raise FormulaError(f"{name} varies over {chosen!r}, which is not among the names")
        names[name] = claims.names[chosen]
    unprinted = any(table in one.texts for one in (formula, *let.values()) for table in claims.unprinted)
    try:
        for name, part in let.items():
            if name in used:
                names[name] = part.value(tables, names)
        value = formula.value(tables, names)
    except AbsentError:
        if unprinted and not missing:
            return None
        raise
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    if not isinstance(value, float):
        raise FormulaError("it must come to one number; use mean, lowest, highest or total")
    return value


def verdicts(readings: Sequence[Reading]) -> dict[str, str]:
    """Claim to what was found: under which readings the paper's tables agree with it.

    "agrees" (under every reading that the words allow), "some readings" of these, "other words" (only under readings
    that the words do not allow), "cut off" (none, unless digits are cut off), "no reading", "not printed" (the tables
    do not hold what is needed), "setting" (nothing to compute).
    """
    return {its[0].claim.id: _verdict(its) for its in by_claim(readings)}


def by_claim(readings: Sequence[Reading]) -> list[list[Reading]]:
    """The readings of each claim together, as they come."""
    return [list(its) for _, its in groupby(readings, lambda one: one.claim.id)]


def _verdict(its: Sequence[Reading]) -> str:
    if not its[0].name:
        return "setting"
    known = [one for one in its if one.agrees != UNKNOWN]
    if not known:
        return "not printed"
    worded = [one.agrees for one in known if one.worded]
    if worded and all(verdict == YES for verdict in worded):
        return "agrees"
    if YES in worded:
        return "some readings"
    every = [one.agrees for one in known]
    return "other words" if YES in every else "cut off" if CUT in every else "no reading"
