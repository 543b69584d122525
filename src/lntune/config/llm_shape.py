"""The sizes of an LLM: given in the catalogue's YAML, read from a config.json, and what memory and time follow from."""

from typing import Any

from pydantic import Field, model_validator

from lntune.config import Frozen


class LlmShape(Frozen):
    """A LLaMA: widths, blocks, heads, words.

    Left out, ``kv_heads`` is ``heads`` and ``head_dim`` its share of ``hidden``. The output head is a matrix of its own
    unless it is ``tied`` to the word embeddings.
    """

    hidden: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    tied: bool = False

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        try:
            return {"kv_heads": given["heads"], "head_dim": given["hidden"] // given["heads"], **given}
        except (TypeError, KeyError, ZeroDivisionError):  # what is wrong the fields say
            return given

    @property
    def parameters(self) -> int:
        """All weights, embeddings and output head included."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        block = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * block + self.words + self.hidden

    @property
    def words(self) -> int:
        """Weights of embeddings and output head."""
        return (1 if self.tied else 2) * self.vocabulary * self.hidden
