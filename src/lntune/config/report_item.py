"""What is shown: the tables and figures of workflow/report_items, one YAML file each.

All of them name LLMs and rows; a row says how each of these LLMs is tuned, and on what. With the key ``figure`` a file
is a figure of that kind, and a table without it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from lntune.config import Frozen
from lntune.config.training import Norm

COST_COLUMNS = ("Mem. (GB)", "#param.")
SIMILARITY = "Similarity"

Layout = Literal["groups", "groups-across", "rows-across"]
Emphasis = Literal["best-and-second", "best", "none"]

OTHERS = "Other models"
"""The title of the group of rows that are other people's."""

RATE = "{rate}"
"""What stands for the learning rate in the title of a row that is swept."""


class GroupSettings(Frozen):
    """An LLM, and the title of its group of rows if that is not the LLM's own."""

    llm: str
    title: str | None = None


def _group(value: Any) -> Any:
    if isinstance(value, str):
        return {"llm": value}
    if not isinstance(value, Mapping):
        raise ValueError("expected an LLM's name, or {llm: NAME, title: TITLE}")
    return value


Group = Annotated[GroupSettings, BeforeValidator(_group)]


class RowSettings(Frozen):
    """One row in each group: how that group's LLM is tuned, and on what.

    ``blind`` zeroes image features when the model is asked, not when it was tuned. ``sweep`` makes a row of each
    learning rate of the scale's ``sweeps`` instead of choosing one; its title holds ``{rate}``.

    Other people's rows have no ``method`` and are a group of their own: ``model`` is a catalogue entry that holds a
    model as transformers loads it, ``answers`` a folder of official answer files, in it one for each benchmark.
    """

    title: str
    method: str = Field(default="", description="of tuning")
    model: str | None = None
    answers: str | None = None
    data: str | None = None
    vision: str | None = None
    blind: bool = False
    sweep: bool = False

    @model_validator(mode="after")
    def _of_one_kind(self) -> "RowSettings":
        if len(given := [key for key in ("method", "model", "answers") if getattr(self, key)]) != 1:
            raise ValueError(f"needs one of method, model and answers, has {' and '.join(given) or 'none'}")
        unfit = [key for key in ("data", "vision", "blind", "sweep") if getattr(self, key)]
        if not self.method and unfit:
            raise ValueError(f"{unfit[0]} is for a row with a method; remove it")
        return self

    @model_validator(mode="after")
    def _rate_in_title(self) -> "RowSettings":
        if self.sweep and RATE not in self.title:
            raise ValueError(f"a row with sweep: true becomes a row of each learning rate; write {RATE} into its title")
        if RATE in self.title and not self.sweep:
            raise ValueError(f"{RATE} in a title is for a row with sweep: true; add that, or change the title")
        return self


class ReportItemBase(Frozen):
    """What tables and figures have in common: title, note, and a group of rows for each LLM."""

    title: str
    note: str = ""
    llms: tuple[Group, ...] = Field(strict=False)
    rows: tuple[RowSettings, ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def _with_llms(self) -> "ReportItemBase":
        if not self.llms and any(row.method for row in self.rows):
            raise ValueError("llms names none, and rows have a method; name one or more")
        return self


class TableSettings(ReportItemBase):
    """A table.

    ``literature`` names groups of the paper's table of the same name whose rows are shown as printed; ``layout`` is
    that of Markdown and LaTeX: groups of rows, or groups or rows side by side; ``emphasis`` is what is bold and
    underlined within a group; ``paired_with`` names the row that the others are compared with, question by question.
    """

    figure: None = Field(default=None, description="a table is no figure")
    columns: tuple[str, ...] = Field(min_length=1, strict=False)
    layout: Layout = "groups"
    emphasis: Emphasis = "best-and-second"
    literature: tuple[str, ...] = Field(default=(), strict=False)
    paired_with: str | None = None
    intervals: bool = Field(default=False, description="show bootstrap 95% intervals in Markdown and LaTeX as well")


class BarsSettings(ReportItemBase):
    """Bars of scores: a panel for each benchmark, a group of bars for each LLM, a bar for each row."""

    figure: Literal["bars"]
    columns: tuple[str, ...] = Field(min_length=1, strict=False)


class CostSettings(ReportItemBase):
    """Trainable parameters against GPU memory: a point for each row."""

    figure: Literal["cost"]
    columns: ClassVar[tuple[str, ...]] = COST_COLUMNS


class HeatMapSettings(ReportItemBase):
    """Layer similarity: a heat map for each row."""

    figure: Literal["heat-maps"]
    columns: ClassVar[tuple[str, ...]] = (SIMILARITY,)


class NormSettings(Frozen):
    """A norm of a decoder layer: the ``layer``-th ``of`` so many, counted from 1; in other depths the one as deep."""

    norm: Norm
    layer: int = Field(ge=1)
    of: int = Field(ge=1)

    @model_validator(mode="after")
    def _among_the_layers(self) -> "NormSettings":
        if self.layer > self.of:
            raise ValueError(f"layer {self.layer} of {self.of} is none; layer is at most of")
        return self


class GradientsSettings(ReportItemBase):
    """Gradients of norms over training: a panel for each norm, a curve for each row."""

    figure: Literal["gradients"]
    norms: tuple[NormSettings, ...] = Field(min_length=1, strict=False)
    columns: ClassVar[tuple[str, ...]] = ()


FigureSettings = BarsSettings | CostSettings | HeatMapSettings | GradientsSettings
ReportItem = TableSettings | FigureSettings

FIGURES: dict[str, type[FigureSettings]] = {
    "bars": BarsSettings,
    "cost": CostSettings,
    "heat-maps": HeatMapSettings,
    "gradients": GradientsSettings,
}
"""The kinds of figures."""
