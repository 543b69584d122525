"""``workflow/paper/claims.yaml``: the quantitative sentences of the paper, and how each may be read from its tables."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lntune.config.base import Frozen

Relation = Literal["equal", "about", "over", "at least", "at most", "under"]
Kind = Literal["relative", "points", "share", "amount", "ratio", "count", "setting"]


def _is_number(text: str) -> str:
    try:
        finite = Decimal(text).is_finite()
    except InvalidOperation:
        finite = False
    if not finite:
        raise ValueError(f"expected a number in quotes, as the paper prints it, got {text!r}")
    return text


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
