"""Questions about one image read it once: their answers are those of prompts asked alone, in bounded memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from answering import STOP, sharp_model, tied_model, word_tokenizer
from lntune.config.training import LoraSettings
from lntune.model.encode import IMAGE_ID
from lntune.model.features import BlindFeatures, EncodedImages, FeatureSource
from lntune.model.generate import Decoder, Prompt, Row, generate
from lntune.model.multimodal import MultimodalModel
from lntune.model.prefix_cache import RowCache, batches
from lntune.model.tuning import apply_method
from tiny_multimodal import image

IMAGES, QUESTIONS, IMAGE_TOKENS = 5, 6, 4


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer()


def lora_model() -> MultimodalModel:
    """Adapters that change the answers."""
    model = sharp_model()
    apply_method(model, "lora", LoraSettings(rank=2, alpha=4, dropout=0.0), seed=0)
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.copy_(0.5 * torch.randn(value.shape, generator=drawn))
    return model


def words(number: int, count: int) -> list[int]:
    return [4 + (7 * number + 3 * place) % 50 for place in range(count)]


def questions(begins: tuple[int, ...] = (3,)) -> list[Prompt]:
    """Six questions of 2 to 5 words about each of five images, one about a sixth, and three without an image.

    ``begins`` are the words before the images, in turn: so many.
    """
    asked = []
    for number in range(IMAGES * QUESTIONS):
        image = number % IMAGES
        before = words(99, begins[image % len(begins)])
        asked.append(Prompt([1, *before, IMAGE_ID, *words(number, 2 + number * 7 % 4)], image))
    asked.append(Prompt([1, *words(99, begins[0]), IMAGE_ID, *words(5, 3)], IMAGES))
    return asked + [Prompt([1, *words(number, 3 + number % 2)], None) for number in range(3)]


def source(model: MultimodalModel) -> EncodedImages:
    return EncodedImages(model.vision, image, count=IMAGES + 1, cache=True, block=4)


def ask(
    model: MultimodalModel,
    tokenizer: PreTrainedTokenizerFast,
    asked: list[Prompt],
    features: FeatureSource | None = None,
    **changes: Any,
) -> list[str]:
    arguments = {"max_new_tokens": 12, "stop": STOP} | changes
    return generate(model, tokenizer, asked, features or source(model), **arguments)


@contextmanager
def passes(model: MultimodalModel) -> Iterator[list[tuple[int, int]]]:
    """Rows and tokens of each pass of the LLM."""
    found: list[tuple[int, int]] = []

    def note(_: Any, __: Any, given: dict[str, Any]) -> None:
        found.append(tuple(given["inputs_embeds"].shape[:2]))

    hook = model.llm.model.register_forward_pre_hook(note, with_kwargs=True)
    yield found
    hook.remove()


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("make", [sharp_model, tied_model, lora_model])
def test_answers_are_those_of_each_prompt_alone(
    make: Any, temperature: float, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = make()
    for asked in (questions(), questions(begins=(3, 5))):
        seeds = list(range(100, 100 + len(asked))) if temperature else None
        alone = [
            ask(model, tokenizer, [prompt], temperature=temperature, seeds=seeds and [seeds[number]])[0]
            for number, prompt in enumerate(asked)
        ]
        for batch_size in (3, 7, 64):
            found = ask(model, tokenizer, asked, batch_size=batch_size, temperature=temperature, seeds=seeds)
            assert found == alone
        lengths = {len(answer.split()) for answer in alone}
        assert len(set(alone)) > 15 and max(lengths) == 12 and min(lengths) < 4


@pytest.fixture
def empty_is_nan() -> Iterator[None]:
    """Memory that nothing was written to holds NaN instead of whatever lay there."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@torch.no_grad()
@pytest.mark.usefixtures("empty_is_nan")
def test_logits_are_those_of_the_whole_sequence(tokenizer: PreTrainedTokenizerFast, monkeypatch: Any) -> None:
    """Up to rounding, at every token of rows whose lengths differ and that end one by one."""
    model, asked = sharp_model(), questions()
    choose, steps = Decoder._choose, 0

    def checked(self: Decoder, logits: torch.Tensor, rows: list[Row]) -> Any:
        nonlocal steps
        for row, found in zip(rows, logits, strict=True):
            image_of = None if row.prompt.image is None else source(model).features([row.prompt.image])
            embedded, _ = model.embed([row.prompt.ids + row.tokens], image_of)
            whole = model.llm(inputs_embeds=embedded, use_cache=False).logits[0, -1]
            torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-4)
            steps += 1
        return choose(self, logits, rows)

    monkeypatch.setattr(Decoder, "_choose", checked)
    ask(model, tokenizer, asked)
    assert steps > 150


def test_a_prefix_is_read_once_and_no_pass_has_more_rows_than_a_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    model, asked = sharp_model(), questions()[: IMAGES * QUESTIONS]
    prefix = 1 + 3 + IMAGE_TOKENS
    for batch_size in (4, 12, 15, 64):
        with passes(model) as found:
            ask(model, tokenizer, asked, batch_size=batch_size)
        read = sum(rows for rows, tokens in found if tokens == prefix)
        assert read == IMAGES * -(-QUESTIONS // batch_size), "in as few batches as a picture's questions fill"
        assert max(rows for rows, _ in found) <= batch_size
        rests = sum(rows * tokens for rows, tokens in found if 1 < tokens < prefix)
        assert rests == sum(len(prompt.rest()) for prompt in asked), "there is no padding"


def test_memory_of_a_batch_is_its_rows(tokenizer: PreTrainedTokenizerFast, monkeypatch: Any) -> None:
    """Buffers are laid out once, for at most a batch's rows; prefixes are given up layer by layer."""
    laid_out, freed = [], []
    begin, adopt = RowCache.__init__, RowCache.adopt

    def counted(self: RowCache, layers: int, rows: int, columns: int) -> None:
        laid_out.append(rows)
        begin(self, layers, rows, columns)

    def freeing(self: RowCache, other: Any, places: torch.Tensor) -> int:
        filled = adopt(self, other, places)
        freed.append(all(layer.keys is None for layer in other.layers))
        return filled

    monkeypatch.setattr(RowCache, "__init__", counted)
    monkeypatch.setattr(RowCache, "adopt", freeing)
    ask(sharp_model(), tokenizer, questions(), batch_size=7)
    assert max(laid_out) <= 7 and len(freed) >= IMAGES and all(freed)


def test_prompts_that_share_nothing_are_read_in_one_pass(tokenizer: PreTrainedTokenizerFast) -> None:
    model = sharp_model()
    captions = [Prompt([1, IMAGE_ID, *words(4, 3)], image) for image in range(IMAGES)]
    with passes(model) as found:
        ask(model, tokenizer, captions)
    assert found[0] == (IMAGES, 4 + IMAGE_TOKENS) and all(tokens == 1 for _, tokens in found[1:])


def test_near_ties_of_a_shared_batch_are_made_again_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    model, asked = tied_model(), questions()
    shared = next(batch.indices for batch in batches(asked, range(len(asked)), 64) if batch.shared)

    def rows() -> list[Row]:
        return [Row(index, asked[index], 0) for index in shared]

    assert len(Decoder(model, tokenizer, source(model), 12, STOP, 0.0).decode(rows(), shared=True)) < len(shared)
    plain = sharp_model()
    found = Decoder(plain, tokenizer, source(plain), 12, STOP, 0.0).decode(rows(), shared=True)
    assert len(found) >= len(shared) - 1, "most models have next to none"
    expected = ask(plain, tokenizer, asked)
    for limit in (0.5, 1e9):
        with passes(plain) as found:
            assert ask(plain, tokenizer, asked, near_tie=limit) == expected
        alone = [tokens for rows, tokens in found if rows == 1 and tokens > 1]
        if limit == 1e9:
            prompts = [len(prompt.ids) + (0 if prompt.image is None else IMAGE_TOKENS - 1) for prompt in asked]
            assert Counter(alone) == Counter(prompts), "each whole prompt, once"


def test_models_that_see_nothing_answer_too(tokenizer: PreTrainedTokenizerFast) -> None:
    model, blind = sharp_model(), BlindFeatures(IMAGE_TOKENS, 6)
    asked = questions()
    assert ask(model, tokenizer, asked, blind) == [ask(model, tokenizer, [one], blind)[0] for one in asked]


def test_a_prompt_that_is_there_twice_is_answered_once(tokenizer: PreTrainedTokenizerFast) -> None:
    model, asked = sharp_model(), questions()
    once = ask(model, tokenizer, asked)
    with passes(model) as first:
        ask(model, tokenizer, asked)
    with passes(model) as second:
        assert ask(model, tokenizer, asked + asked[::-1]) == once + once[::-1]
    assert first == second
    seeds = list(range(2 * len(asked)))
    sampled = ask(model, tokenizer, asked + asked, temperature=2.0, seeds=seeds)
    assert sampled[: len(asked)] != sampled[len(asked) :]


def test_an_image_at_the_end_of_a_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    model = sharp_model()
    asked = [Prompt([1, 7, IMAGE_ID], 0), Prompt([1, 7, IMAGE_ID, 8], 0), Prompt([1, 7, IMAGE_ID, 8, 9], 0)]
    assert ask(model, tokenizer, asked) == [ask(model, tokenizer, [one])[0] for one in asked]


@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4], [0, 3, 4], [4], [1, 2], [0, 1]])
def test_rows_that_stay_keep_what_they_have_seen(kept: list[int]) -> None:
    cache = RowCache(layers=2, rows=5, columns=6)
    drawn = torch.Generator().manual_seed(0)
    states = torch.randn(2, 5, 3, 4, 7, generator=drawn)
    for layer in range(2):
        cache.update(states[layer], -states[layer], layer)
    cache.advance(4)
    cache.go_on([4, 3, 2, 1, 4], torch.device("cpu"))
    for row, length in enumerate([4, 3, 2, 1, 4]):
        states[:, row, :, length:] = 0.0  # what is in a gap is a number, whatever it was
    gaps = cache.placement(SimpleNamespace())["attention_mask"].clone()
    order = cache.keep(kept)
    assert sorted(order) == kept and torch.equal(cache.placement(SimpleNamespace())["attention_mask"], gaps[order])
    more = torch.randn(len(kept), 3, 1, 7, generator=drawn)
    for layer in range(2):
        keys, values = cache.update(more, 2 * more, layer)
        assert torch.equal(keys, torch.cat([states[layer][order], more], 2))
        assert torch.equal(values, torch.cat([-states[layer][order], 2 * more], 2))
