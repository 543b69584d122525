"""``config.yaml``: what to run, at which scale, under which choices; the numbers are in the scale."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lntune.config.base import Frozen

Seed = Annotated[int, Field(ge=0, lt=2**63)]
SelectionSplit = Literal["test", "validation"]


class StudySettings(Frozen):
    """The top-level choices."""

    scale: str = Field(description="a file of workflow/scales, without .yaml")
    experiments: tuple[str, ...] = Field(
        min_length=1, strict=False, description="tables and figures: files of workflow/experiments"
    )
    seeds: tuple[Seed, ...] = Field(
        min_length=1, strict=False, description="each trains every model once; the first also draws data"
    )
    protocol: str = Field(description="how models are asked: a file of workflow/protocols, without .yaml")
    selection_split: SelectionSplit = Field(
        description="Flickr30k split on which learning rates are chosen: test, as in the paper, or validation"
    )
    store: str = Field(min_length=1, description="folder of all results; may be shared")
    copies: dict[str, str] = Field(
        default={}, description="catalogue entry to the folder that holds its files already; nothing is downloaded then"
    )

    @field_validator("experiments", "seeds")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value} is there {values.count(value)} times; keep one")
        return values
