"""An evaluation protocol: a named, complete choice of how the tuned models are asked."""

from typing import Annotated, Literal

from pydantic import Field

from lntune.config import Frozen

Benchmark = Literal["mme", "vqav2", "mscoco", "flickr30k", "pope"]
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


class CaptionFormat(Frozen):
    """When a model follows the captioning sets' format; a table shows "-" for one that does not.

    An answer is a caption in form if it is one line of ``least_words`` to ``most_words`` words, not all of them yes or
    no; a model follows if ``least_share`` of its answers, from 0 to 1, or more are.
    """

    least_words: int = Field(ge=1)
    most_words: int = Field(ge=1)
    least_share: float = Field(ge=0, le=1)


class ProtocolSettings(Frozen):
    """One protocol, for all five benchmarks.

    ``template`` overrides the LLM's own prompt template; ``caption_request`` is what is asked of the captioning
    sets; ``vqav2_questions`` takes that many random questions (null: all).
    """

    note: str
    template: TemplateName | None
    temperature: float = Field(ge=0)
    caption_request: str
    mme_subtasks: tuple[str, ...] = Field(min_length=1, strict=False)
    vqav2_questions: int | None = Field(ge=1)
    vqav2_normalise: Literal["official", "always"]
    mme: Prompting
    vqav2: Prompting
    captions: Prompting
    caption_format: CaptionFormat
    pope: Prompting

    def prompting(self, benchmark: Benchmark) -> Prompting:
        """How the questions of a benchmark are put; the two captioning sets are asked alike."""
        if benchmark in ("mscoco", "flickr30k"):
            return self.captions
        return {"mme": self.mme, "vqav2": self.vqav2, "pope": self.pope}[benchmark]
