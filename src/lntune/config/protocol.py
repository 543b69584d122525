"""An evaluation protocol: a named, complete choice of how the tuned models are asked."""

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lntune.config import Frozen

TemplateName = Literal["plain", "v0", "v1", "llama_2"]

_Prompt = Annotated[str, Field(pattern=r"\{question\}", description="must hold {question}")]


class Shot(Frozen):
    """An example in words alone, shown before the question."""

    question: str
    answer: str


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
            raise ValueError(
                f"its only field must be {{question}}, got {prompt!r}; write other braces twice, as {{{{ and }}}}"
            )
        return prompt


class ProtocolSettings(Frozen):
    """One protocol: one file of workflow/protocols.

    ``template`` overrides the LLM's own prompt template. ``benchmarks`` says how each benchmark is asked: what
    Prompting has, and what the benchmark's descriptor adds (:mod:`lntune.benchmarks.registry` makes that model).
    """

    note: str
    template: TemplateName | None
    temperature: float = Field(ge=0)
    benchmarks: Frozen

    def options(self, key: str) -> Any:
        """What the protocol says under a key of ``benchmarks``."""
        return getattr(self.benchmarks, key)

    def prompting(self, key: str) -> Prompting:
        """How questions are put under a key of ``benchmarks``, without what decides the questions or the score."""
        options = self.options(key)
        return Prompting(prompt=options.prompt, shots=options.shots, max_new_tokens=options.max_new_tokens)
