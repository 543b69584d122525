"""Which answers are captions in form."""

from pathlib import Path
from typing import get_args

import pytest

from lntune.benchmarks.captions.score import is_caption, share_of_captions
from lntune.benchmarks.registry import protocol_settings
from lntune.config.load import load
from lntune.world.language import Style, caption
from lntune.world.scenes import draw_scene, generator

PROTOCOLS = sorted((Path(__file__).parents[4] / "workflow" / "protocols").glob("*.yaml"))


@pytest.mark.parametrize(
    "answer", ["A dog.", "  a red ball on the beach .\n", "Two dogs - 3 cats", "no dog is here", "Un café ouvert"]
)
def test_captions_in_form(answer: str) -> None:
    assert is_caption(answer, 2, 6)


@pytest.mark.parametrize(
    "answer",
    ["", "\n", "dog", "dog . !", "Yes.", "yes, yes", "No no no", "12 34", "... -- !", "A dog.\nA cat.", "a\u2028dog",
     "one two three four five six seven"],
)  # fmt: skip
def test_answers_that_are_no_captions(answer: str) -> None:
    assert not is_caption(answer, 2, 6)


def test_the_share_of_captions() -> None:
    assert share_of_captions(["a dog", "a cat", "", "yes"], 2, 6) == 0.5
    assert share_of_captions({"a": "a b c d"}.values(), 4, 4) == 1
    assert share_of_captions({"a": "a b c d"}.values(), 5, 5) == 0


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: str(path.stem))
def test_what_describers_of_the_demo_write_is_in_form(path: Path) -> None:
    protocol = load(path, protocol_settings()).options("captions")
    words, rng = protocol.format, generator(0, "captions")
    captions = [caption(draw_scene(rng), rng, style) for _ in range(500) for style in get_args(Style)]
    # What the tokens that a model may say make of them: a token is a word or a mark in the demo.
    cut = [" ".join(text.split()[: protocol.max_new_tokens]) for text in captions]
    assert share_of_captions(captions, words.least_words, words.most_words) == 1
    assert share_of_captions(cut, words.least_words, words.most_words) == 1
