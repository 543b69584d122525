"""An evaluation protocol: a named, complete choice of how the tuned models are asked."""

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lntune.config import Frozen

TemplateName = Literal["plain", "v0", "vicuna_v0", "v1", "llama_2", "chat"]

_Prompt = Annotated[str, Field(pattern=r"\{question\}", description="must hold {question}")]


class Shot(Frozen):
    """An example in words alone, shown before the question."""

    question: str
    answer: str


class DrawnShots(Frozen):
    """Examples that are drawn for each question: ``number`` of a ``pool`` of so many, which is drawn once."""

    number: int = Field(ge=1, le=64)
    pool: int = Field(ge=1)
    seed: int = Field(ge=0, lt=2**32)


class Prompting(Frozen):
    """How one benchmark's questions are put."""

    prompt: _Prompt = "{question}"
    shots: tuple[Shot, ...] = Field(default=(), strict=False)
    max_new_tokens: int = Field(ge=1, le=4096)

    @field_validator("prompt")
    @classmethod
    def _only_the_question(cls, prompt: str) -> str:
        try:
            fields = {name for _, name, _, _ in Formatter().parse(prompt) if name is not None}
        except ValueError:
            fields = set()
        if fields != {"question"}:
            others = "write other braces twice, as {{ and }}"
            raise ValueError(f"its only field must be {{question}}, got {prompt!r}; {others}")
        return prompt


class DrawingPrompting(Prompting):
    """Of a benchmark whose files hold examples: ``drawn_shots`` in place of ``shots``."""

    drawn_shots: DrawnShots | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> "DrawingPrompting":
        if self.shots and self.drawn_shots:
            raise ValueError("gives both shots and drawn_shots; remove one")
        return self


class ProtocolSettings(Frozen):
    """One protocol: one file of workflow/protocols.

    ``template`` overrides the LLM's own prompt template. At a ``temperature`` above 0 tokens are sampled from the
    ``top_k`` likeliest (null: from all). The end-of-sequence token is no answer's before ``min_new_tokens`` others.
    ``benchmarks`` says how each benchmark is asked: what Prompting has, and what the benchmark's descriptor adds
    (:mod:`lntune.benchmarks.registry` makes that model).
    """

    note: str
    template: TemplateName | None
    temperature: float = Field(ge=0)
    top_k: int | None = Field(default=None, ge=1)
    min_new_tokens: int = Field(default=0, ge=0)
    benchmarks: Frozen

    def options(self, key: str) -> Any:
        """What the protocol says under a key of ``benchmarks``."""
        return getattr(self.benchmarks, key)

    def prompting(self, key: str) -> Prompting:
        """How questions are put under a key of ``benchmarks``, without what decides the questions or the score."""
        options = self.options(key)
        return Prompting(prompt=options.prompt, shots=options.shots, max_new_tokens=options.max_new_tokens)
