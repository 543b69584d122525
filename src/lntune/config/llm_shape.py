"""The sizes of an LLM: given in the catalogue's YAML, read from a config.json, and what memory and time follow from."""

from typing import Any

from pydantic import Field, model_validator

from lntune.config import Frozen
from lntune.config.llm_family import FAMILIES, Family, ModelType


class LlmShape(Frozen):
    """An LLM: its family, widths, blocks, heads, words.

    Left out, ``kv_heads`` is ``heads`` and ``head_dim`` its share of ``hidden``. The output head is a matrix of its own
    unless it is ``tied`` to the word embeddings. Some families have other usual values of these two.
    """

    model_type: ModelType = "llama"
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
            family = FAMILIES[given.get("model_type", "llama")]
            width = family.head_dim or given["hidden"] // given["heads"]
            return {"kv_heads": given["heads"], "head_dim": width, "tied": family.tied, **given}
        except (TypeError, AttributeError, KeyError, ZeroDivisionError):  # what is wrong the fields say
            return given

    @property
    def family(self) -> Family:
        """How its blocks are laid out."""
        return FAMILIES[self.model_type]

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the attention's four matrices."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        inward = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
        return {name: (self.hidden, outputs) for name, outputs in inward.items()} | {"o_proj": (queries, self.hidden)}

    @property
    def parameters(self) -> int:
        """All weights, embeddings and output head included."""
        family, matrices = self.family, self.projections
        attention = sum(inputs * outputs for inputs, outputs in matrices.values())
        attention += sum(matrices[name][1] for name in family.biased) + len(family.head_norms) * self.head_dim
        block = attention + 3 * self.hidden * self.intermediate + len(family.block_norms) * self.hidden
        return self.layers * block + self.words + self.hidden

    @property
    def words(self) -> int:
        """Weights of embeddings and output head."""
        return (1 if self.tied else 2) * self.vocabulary * self.hidden
