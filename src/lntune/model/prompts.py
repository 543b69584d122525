"""The prompt templates: a conversation in, one string out, for training and for generation alike.

The strings are those that LLaVA trains on (haotian-liu/LLaVA, ``llava/conversation.py`` and ``llava/train/train.py``;
the system sentences of v0 and v1 come from lm-sys/FastChat). Where LLaVA's training and inference strings differ, both
sides here use the training string, so that a prompt is, to the character, the beginning of what was trained on:

- ``plain``: image, caption, line break; the connector's pretraining.
- ``v0``: ``### Human: ... ### Assistant: ...``, LLaVA's training string but for one blank at its end. Its loss covers
  ``### Assistant:`` too; here it covers answers only.
- ``vicuna_v0``: what LLaVA and Sight-Beyond-Text prompt with under the name v0 (FastChat's conversation of that name):
  without the white space, and with an example conversation in front. No model is trained on it.
- ``v1``: ``USER: ... ASSISTANT: ...``, FastChat's vicuna_v1.1.
- ``chat`` is not here but the LLM's own (:mod:`lntune.model.chat`).
- ``llama_2``: ``[INST] ... [/INST]``, with the system sentence of LLaVA's ``llava_llama_2``, which its scripts use for
  LLaMA-2-chat; LLaVA's own ``llama_2`` has Meta's sentence, about safety.

An answer starts right behind its header, so the blank in front of it is the model's to produce: tokenizers of the LLaMA
and GPT-2 kind glue that blank to the first word. The sequence's first ``<s>`` is no part of any string here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from lntune.errors import UserError

IMAGE = "<image>"
"""Stands where the image's tokens go: once in a conversation, at the front of a user turn."""


class Turn(NamedTuple):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Rendered:
    """A conversation as one string, and the spans ``[start, end)`` of answers to train on and of all turns' texts."""

    text: str
    answers: list[tuple[int, int]]
    said: list[tuple[int, int]]


class Layout(Protocol):
    """How a conversation becomes a string; ``stop`` is the mark that ends an answer."""

    @property
    def stop(self) -> str: ...
    def lay_out(self, turns: Sequence[Turn], system: str | None) -> Rendered:
        """The string; UserError for a malformed conversation."""


@dataclass(frozen=True)
class Template:
    """The pieces that a conversation is laid between.

    ``opening`` stands in front of the system part, ``first`` in front of the first user text and ``later`` in front of
    those that follow; ``header`` leads over to the answer, which is ``blank``, what the assistant says, and ``footer``.
    That ends in ``stop``, the mark of an answer's end.
    """

    footer: str
    stop: str
    system: str = ""
    system_before: str = ""
    system_after: str = ""
    opening: str = ""
    first: str = ""
    later: str = ""
    header: str = ""
    blank: str = " "

    def lay_out(self, turns: Sequence[Turn], system: str | None) -> Rendered:
        """Concatenate the pieces and note where each answer begins and ends."""
        check_turns(turns)
        if self is _PLAIN and [turn.text for turn in turns if turn.role == "user"] != [IMAGE]:
            raise UserError(f"the template 'plain' takes an image and its caption: the user's text must be {IMAGE}")
        text = self.opening + _system_part(self, system) + self.first
        answers, said = [], []
        for number, turn in enumerate(turns):
            start = len(text)
            text += (self.later if number else "") if turn.role == "user" else self.blank
            said.append((len(text), len(text) + len(turn.text)))
            text += turn.text + (self.header if turn.role == "user" else self.footer)
            if turn.role == "assistant":
                answers.append((start, len(text)))
        return Rendered(text, answers, said)


_PLAIN = Template(blank="", footer="\n", stop="\n")

_V0 = Template(
    system=(
        "A chat between a curious human and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the human's questions."
    ),
    system_after="\n\n",
    first="### Human: ",
    later=" Human: ",  # its "###" is the end mark of the answer before it
    header="\n### Assistant:",
    footer="\n###",
    stop="###",
)

# FastChat's example (lm-sys/FastChat, Apache 2.0): a part of the prompt, so to the letter.
_VICUNA_EXAMPLE = (
    "Human: What are the key differences between renewable and non-renewable energy sources?###"
    "Assistant: Renewable energy sources are those that can be replenished naturally in a relatively short amount of "
    "time, such as solar, wind, hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, are "
    "finite and will eventually be depleted, such as coal, oil, and natural gas. Here are some key differences between "
    "renewable and non-renewable energy sources:\n"
    "1. Availability: Renewable energy sources are virtually inexhaustible, while non-renewable energy sources are "
    "finite and will eventually run out.\n"
    "2. Environmental impact: Renewable energy sources have a much lower environmental impact than non-renewable "
    "sources, which can lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n"
    "3. Cost: Renewable energy sources can be more expensive to initially set up, but they typically have lower "
    "operational costs than non-renewable sources.\n"
    "4. Reliability: Renewable energy sources are often more reliable and can be used in more remote locations than "
    "non-renewable sources.\n"
    "5. Flexibility: Renewable energy sources are often more flexible and can be adapted to different situations and "
    "needs, while non-renewable sources are more rigid and inflexible.\n"
    "6. Sustainability: Renewable energy sources are more sustainable over the long term, while non-renewable sources "
    "are not, and their depletion can lead to economic and social instability.\n###"
)

_VICUNA_V0 = Template(
    system=_V0.system,
    system_after="###",
    first=f"{_VICUNA_EXAMPLE}Human: ",
    later="Human: ",
    header="###Assistant:",
    footer="###",
    stop="###",
)

_V1 = Template(
    system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
    system_after=" ",
    first="USER: ",
    later="USER: ",
    header=" ASSISTANT:",
    footer="</s>",
    stop="</s>",
)

_LLAMA_2 = Template(
    system=(
        "You are a helpful language and vision assistant. "
        "You are able to understand the visual content that the user provides, "
        "and assist the user with a variety of tasks using natural language."
    ),
    system_before="<<SYS>>\n",
    system_after="\n<</SYS>>\n\n",
    opening="[INST] ",
    later="<s>[INST] ",
    header=" [/INST]",
    footer=" </s>",
    stop="</s>",
)

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {"plain": _PLAIN, "v0": _V0, "vicuna_v0": _VICUNA_V0, "v1": _V1, "llama_2": _LLAMA_2}
)


CHAT = "chat"
"""The name of the LLM's own template."""


def render(template: str | Layout, turns: Sequence[Turn], *, system: str | None = None) -> Rendered:
    """Lay out a whole conversation for training: turns that alternate, a user's first, an assistant's last.

    ``system`` replaces the template's own system sentence; ``""`` leaves the system part out. The spans cover each
    answer and its end mark. Raises UserError for an unknown template or a malformed conversation.
    """
    if not turns or turns[-1].role != "assistant":
        raise UserError("a conversation to train on must end with the assistant's turn: drop the open question")
    return named(template).lay_out(turns, system)


def render_prompt(template: str | Layout, turns: Sequence[Turn], *, system: str | None = None) -> Rendered:
    """Lay out a conversation whose last turn, a user's, the model is to answer; UserError as :func:`render`."""
    if not turns or turns[-1].role != "user":
        raise UserError("a prompt must end with the user's turn: drop the answer behind the question")
    return named(template).lay_out(turns, system)


def stop_string(template: str | Layout) -> str:
    """The mark that ends an answer, at which generation stops; the answer is the text before it, stripped."""
    return named(template).stop


def stop_strings(templates: Sequence[str]) -> list[str]:
    """The marks that end answers in templates, but for ``chat``: its tokenizer has the one that it names."""
    return [stop_string(template) for template in templates if template != CHAT]


def named(template: str | Layout) -> Layout:
    """The layout of that name; UserError if there is none."""
    if not isinstance(template, str):
        return template
    if template not in TEMPLATES:
        raise UserError(f"there is no prompt template '{template}': choose one of {', '.join(TEMPLATES)}")
    return TEMPLATES[template]


def _system_part(template: Template, system: str | None) -> str:
    sentence = template.system if system is None else system
    if not sentence:
        return ""
    if template is _PLAIN:
        raise UserError("the template 'plain' has no place for a system sentence: leave `system` empty")
    return template.system_before + sentence + template.system_after


def check_turns(turns: Sequence[Turn]) -> None:
    """Refuse turns out of order and a placeholder anywhere but, once, at the front of a user turn."""
    images = 0
    for number, turn in enumerate(turns):
        expected = "assistant" if number % 2 else "user"
        if turn.role != expected:
            raise UserError(f"turn {number + 1} of a conversation is by '{turn.role}': it must be by '{expected}'")
        in_front = turn.role == "user" and turn.text.startswith(IMAGE)
        images += in_front
        if turn.text.count(IMAGE) > in_front:
            raise UserError(f"turn {number + 1} of a conversation: {IMAGE} may stand once, at the front of a user's")
    if images > 1:
        raise UserError(f"a conversation shows {images} images: it may show one")
