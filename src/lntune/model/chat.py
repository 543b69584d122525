"""The prompt template ``chat``: an LLM's own, which its tokenizer brings (``chat_template``), rendered by transformers.

Turns are laid between what the template says for a conversation of so many turns. An answer that is trained on begins
where the prompt for it ends, and ends with the special token that the template sets behind it; all else, such as a line
break after that, is not trained on. So a prompt is, to the character, the beginning of what was trained on.

Texts are stripped, as most templates do. Where a template thinks aloud it is asked not to (``enable_thinking``), and
the date that some write is always the same: what is trained on must not depend on the day.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from lntune.errors import UserError
from lntune.model.prompts import CHAT, Layout, Rendered, Turn, check_turns, named

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_DATE = datetime(2024, 7, 26)
DATE_TEXT = _DATE.strftime("%d %b %Y")
"""What LLaMA 3's templates write where they know no other."""

_TEXT = "\ue000{}\ue001"
"""Stands for a turn's text while the template is rendered, in letters of Unicode's private use."""


class ChatTemplate:
    """A tokenizer's chat template; UserError if it has none, or one that no answer can be found in."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        self.tokenizer = tokenizer
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        longest_first = sorted(special, key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._stop = self._end_of_answers()

    @property
    def stop(self) -> str:
        """The mark that ends an answer."""
        return self._stop

    def _end_of_answers(self) -> str:
        """The first special token behind an answer."""
        for turns, answer in ((2, 1), (4, 1)):  # behind the last answer, or between two
            if found := self._marks.search(self._pieces(turns, None)[answer + 1]):
                return found[0]
        raise UserError(f"{self._where}: ends no answer with a special token; choose one of lntune's own templates")

    @property
    def _where(self) -> str:
        return f"{self.tokenizer.name_or_path}: its chat template"

    @lru_cache(maxsize=1024)  # noqa: B019  (one a tokenizer, as long as the job)
    def _pieces(self, turns: int, system: str | None, ask: bool = False) -> list[str]:
        """What stands before, between and behind the texts of so many turns; with ``ask``, up to the answer's place."""
        from jinja2 import TemplateError

        messages = [{"role": "system", "content": system}] if system else []
        for number in range(turns):
            messages.append({"role": "assistant" if number % 2 else "user", "content": _TEXT.format(number)})
        fixed: dict[str, Any] = {"date_string": DATE_TEXT, "strftime_now": _DATE.strftime}
        try:
            text: Any = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ask, enable_thinking=False, **fixed
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise UserError(f"{self._where} fails: {' '.join(str(error).split())}; choose another template") from None
        found = re.split(_TEXT.format(r"(\d+)"), text)
        if found[1::2] != [str(number) for number in range(turns)]:
            raise UserError(f"{self._where} does not say each turn once, in order; choose another template")
        return [found[0].removeprefix(self.tokenizer.bos_token or ""), *found[2::2]]

    def lay_out(self, turns: Sequence[Turn], system: str | None) -> Rendered:
        """The conversation, as :func:`lntune.model.prompts.render` gives it; without ``system`` the template's own."""
        check_turns(turns)
        ask = turns[-1].role == "user"
        pieces = self._pieces(len(turns), system, ask)
        text, answers, said = pieces[0], list[tuple[int, int]](), list[tuple[int, int]]()
        for number, turn in enumerate(turns):
            start, behind = len(text), pieces[number + 1]
            if turn.role == "assistant":
                prompt = self._pieces(number, system, True)[-1]
                alike = takewhile(lambda pair: pair[0] == pair[1], zip(pieces[number], prompt, strict=False))
                start -= len(pieces[number]) - sum(1 for _ in alike)
            spoken = turn.text.strip()
            said.append((len(text), len(text) + len(spoken)))
            text += spoken + behind
            if turn.role == "assistant":
                mark = self._marks.search(behind)
                if mark is None or mark[0] != self.stop:
                    raise UserError(f"{self._where} ends answers in several ways; choose another template")
                answers.append((start, len(text) - len(behind) + mark.end()))
        return Rendered(text, answers, said)


def layout(template: str, tokenizer: "PreTrainedTokenizerFast") -> Layout:
    """The layout that a config names: the tokenizer's own for ``chat``, else one of TEMPLATES."""
    return ChatTemplate(tokenizer) if template == CHAT else named(template)
