"""How the stages that have a benchmark's questions answered put them, to a tuned model or to somebody else's."""

import hashlib
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from lntune.config import Frozen
from lntune.config.protocol import Prompting
from lntune.config.training import AnswerPrecision, OnDevice
from lntune.data.samples import Question
from lntune.model.prompts import IMAGE, Turn


class AskedSettings(Frozen):
    """What a prompt says besides the question, and how long an answer is."""

    prompting: Prompting

    def turns(self, question: Question) -> list[Turn]:
        """Shots in words, then the image's placeholder and the question."""
        ask = self.prompting.prompt.format
        shots = [(shot.question, shot.answer) for shot in self.prompting.shots]
        shots += [(ask(question=asked), answer) for asked, answer in question.shots]
        turns = [turn for asked, answer in shots for turn in (Turn("user", asked), Turn("assistant", answer))]
        return [*turns, Turn("user", f"{IMAGE}\n" + ask(question=question.text.strip()))]


class DecodingSettings(Frozen):
    """How tokens are chosen; ``batch_size`` is of bf16 alone: how many questions at a time, by which answers differ."""

    temperature: float
    top_k: int | None
    min_new_tokens: int
    precision: AnswerPrecision = "fp32"
    batch_size: int | None = None


class Execution(OnDevice):
    """Questions in one batch, and threads that compute and that decode images."""

    batch_size: int = Field(ge=1)
    threads: int = Field(ge=1)
    workers: int = Field(default=1, ge=1)


def messages(turns: Sequence[Turn], image: object) -> list[dict[str, Any]]:
    """A conversation as Hugging Face's processors take it; the image before a user's text is an item of its own."""

    def content(turn: Turn) -> list[dict[str, Any]]:
        shown, _, text = turn.text.rpartition(f"{IMAGE}\n")
        seen = [{"type": "image", "image": image}] if shown or turn.text.startswith(IMAGE) else []
        return [*seen, {"type": "text", "text": text}]

    return [{"role": turn.role, "content": content(turn)} for turn in turns]


def seed_of(question: Question, seed: int) -> int:
    """A seed of the question's own, so that sampling depends neither on order nor on batch."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{question.id}".encode()).digest()[:6], "big")
