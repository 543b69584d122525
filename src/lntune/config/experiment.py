"""A table: which variants make its rows, and under which titles."""

from typing import Literal

from pydantic import Field

from lntune.config.base import Frozen
from lntune.config.protocol import Benchmark

Column = Literal["MME", "VQAv2", "MSCOCO", "Flickr30k", "POPE"]

COLUMN_BENCHMARKS: dict[Column, Benchmark] = {
    "MME": "mme",
    "VQAv2": "vqav2",
    "MSCOCO": "mscoco",
    "Flickr30k": "flickr30k",
    "POPE": "pope",
}
"""The benchmark that a column shows."""


class RowSettings(Frozen):
    """One row in each group of a table: how that group's LLM is tuned, and on what.

    ``vision`` other than the scale's default, and ``blind`` (image features zeroed when the model is asked, not when
    it was tuned), are for comparisons.
    """

    title: str
    method: str
    data: str
    vision: str | None = None
    blind: bool = False


class TableSettings(Frozen):
    """One file of workflow/experiments: a group of rows for each LLM."""

    title: str
    note: str = ""
    columns: tuple[Column, ...] = Field(min_length=1, strict=False)
    llms: tuple[str, ...] = Field(min_length=1, strict=False)
    rows: tuple[RowSettings, ...] = Field(min_length=1, strict=False)
    intervals: bool = Field(default=False, description="add bootstrap 95% intervals to the CSV")
