"""Generation: greedy answers, where they end, sampling; the batch size does not show in an answer."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from answering import STOP, sharp_model, tied_model, word_tokenizer
from lntune.model.device import set_precision
from lntune.model.encode import IMAGE_ID
from lntune.model.features import EncodedImages
from lntune.model.generate import NEAR_TIE, Decoder, Prompt, Row, generate
from lntune.model.multimodal import MultimodalModel
from lntune.model.prefix_cache import batches
from tiny_multimodal import VOCABULARY, image, tiny_model


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer()


def images(model: MultimodalModel) -> EncodedImages:
    return EncodedImages(model.vision, image, count=30, cache=True, block=8)


def prompts(count: int) -> list[Prompt]:
    """Prompts of five lengths, every third of text alone."""
    made = []
    for number in range(count):
        words = [4 + (7 * number + 3 * place) % 50 for place in range(2 + number % 5)]
        image = None if number % 3 == 2 else number % 30
        made.append(Prompt([1] + ([] if image is None else [IMAGE_ID]) + words, image))
    return made


def answers(
    model: MultimodalModel, tokenizer: PreTrainedTokenizerFast, count: int = 40, **changes: object
) -> list[str]:
    arguments = {"max_new_tokens": 12, "stop": STOP} | changes
    return generate(model, tokenizer, prompts(count), images(model), **arguments)  # type: ignore[arg-type]


def naive_answer(model: MultimodalModel, tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> str:
    """Run the whole sequence anew for every token, without a cache."""
    ids: list[int] = []
    for _ in range(12):
        features = None if prompt.image is None else model.vision.encode(image(prompt.image)[None])
        embedded, _ = model.embed([prompt.ids + ids], features)
        token = int(model.llm(inputs_embeds=embedded).logits[0, -1].argmax())
        if token in (2, 3):
            break
        ids.append(token)
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@torch.no_grad()
def test_greedy_answers_are_those_of_the_plain_procedure(tokenizer: PreTrainedTokenizerFast) -> None:
    model = sharp_model()
    found = answers(model, tokenizer)
    assert found == [naive_answer(model, tokenizer, prompt) for prompt in prompts(40)]
    lengths = {len(answer.split()) for answer in found}
    assert len(set(found)) > 20 and max(lengths) == 12 and min(lengths) < 6


def test_answers_end_at_the_stop_string_the_end_token_or_the_limit(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = sharp_model()
    longest = answers(model, tokenizer, stop="never")
    stopped = answers(model, tokenizer)
    for full, cut in zip(longest, stopped, strict=True):
        assert cut == full.partition(STOP)[0].strip()
    assert any(STOP in answer for answer in longest)
    assert any(len(answer.split()) < 12 for answer in longest), "the end token"
    for full, short in zip(longest, answers(model, tokenizer, stop="never", max_new_tokens=3), strict=True):
        assert short.split() == full.split()[:3]


def test_answers_end_at_a_special_stop_that_no_text_shows(tokenizer: PreTrainedTokenizerFast) -> None:
    """As in a model whose sequences end in another token than its prompt template's answers."""
    model, hiding = sharp_model(), word_tokenizer()
    hiding.add_special_tokens({"additional_special_tokens": [STOP]})
    assert hiding.decode([7, 3], skip_special_tokens=True) == hiding.decode([7])
    assert any(STOP in answer for answer in answers(model, tokenizer, stop="never"))
    assert answers(model, hiding) == answers(model, tokenizer)
    lengths = [len(answer.split()) for answer in answers(model, hiding, min_new_tokens=3)]
    assert min(lengths) == 3 > min(len(answer.split()) for answer in answers(model, hiding))


def test_batches_are_of_one_length_and_hold_each_prompt_once() -> None:
    asked = prompts(30)
    found = list(batches(asked, range(30), 3))
    assert sorted(index for batch in found for index in batch.indices) == list(range(30))
    for batch in found:
        assert len(batch.indices) <= 3 and not batch.shared, "each image is asked about once"
        assert len({(len(asked[i].ids), asked[i].image is None) for i in batch.indices}) == 1


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("make", [sharp_model, tied_model])
def test_answers_do_not_depend_on_the_batch_size(
    make: type[MultimodalModel], temperature: float, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = make()
    seeds = list(range(100, 140)) if temperature else None
    alone = answers(model, tokenizer, batch_size=1, temperature=temperature, seeds=seeds)
    for batch_size in (3, 64):
        found = answers(model, tokenizer, batch_size=batch_size, temperature=temperature, seeds=seeds)
        assert found == alone


def test_near_ties_are_made_again_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tied_model()
    decoder = Decoder(model, tokenizer, images(model), 12, STOP, 0.0)
    batch = next(batch.indices for batch in batches(prompts(40), range(40), 64) if len(batch.indices) > 3)

    def rows() -> list[Row]:
        return [Row(index, prompts(40)[index], 0) for index in batch]

    assert len(decoder.decode(rows())) < len(batch)
    assert all(len(decoder.decode([row])) == 1 for row in rows())
    plain = sharp_model()
    decoder = Decoder(plain, tokenizer, images(plain), 12, STOP, 0.0)
    assert len(decoder.decode(rows())) == len(batch), "most models have none"


def test_sampling_follows_the_softmax_and_the_seeds(tokenizer: PreTrainedTokenizerFast) -> None:
    model, count = tiny_model(seed=2), 4000
    prompt = Prompt([1, IMAGE_ID, 7, 8], 0)
    source = images(model)
    with torch.no_grad():
        embedded, _ = model.embed([prompt.ids], source.features([0]))
        chances = (model.llm(inputs_embeds=embedded).logits[0, -1] / 0.8).softmax(0)

    def sample(first_seed: int) -> list[str]:
        return generate(
            model,
            tokenizer,
            [prompt] * count,
            source,
            max_new_tokens=1,
            stop="never",
            temperature=0.8,
            seeds=range(first_seed, first_seed + count),
            batch_size=500,
        )

    found = sample(0)
    assert found == sample(0) and found != sample(1) and found[1:] == sample(1)[:-1]
    for token in range(4, VOCABULARY):
        spread = float((chances[token] * (1 - chances[token]) / count).sqrt())
        assert found.count(f"w{token}") / count == pytest.approx(float(chances[token]), abs=4.5 * spread)


def test_sampling_from_the_likeliest_follows_their_softmax(tokenizer: PreTrainedTokenizerFast) -> None:
    model, count, k = tiny_model(seed=2), 4000, 5
    prompt = Prompt([1, IMAGE_ID, 7, 8], 0)
    source = images(model)
    with torch.no_grad():
        embedded, _ = model.embed([prompt.ids], source.features([0]))
        scores = model.llm(inputs_embeds=embedded).logits[0, -1] / 0.8
    likeliest = scores.topk(k).indices.tolist()
    chances = scores[likeliest].softmax(0)

    def sample(batch_size: int) -> list[str]:
        return generate(
            model, tokenizer, [prompt] * count, source,
            max_new_tokens=1, stop="never", temperature=0.8, top_k=k, seeds=range(count), batch_size=batch_size,
        )  # fmt: skip

    found = sample(500)
    assert found[:50] == sample(7)[:50]
    assert {text for text in found if text} <= {f"w{token}" for token in likeliest}
    for token, chance in zip(likeliest, chances.tolist(), strict=True):
        if token > 3:
            assert found.count(f"w{token}") / count == pytest.approx(chance, abs=4.5 * (chance / count) ** 0.5)


@pytest.mark.parametrize("make", [sharp_model, tied_model])
def test_answers_from_the_likeliest_do_not_depend_on_batch_size_or_order(
    make: type[MultimodalModel], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = make()
    sampled = {"temperature": 0.9, "top_k": 3, "min_new_tokens": 2}
    alone = answers(model, tokenizer, batch_size=1, seeds=range(100, 140), **sampled)
    assert alone != answers(model, tokenizer, batch_size=1, seeds=range(100, 140), **sampled | {"top_k": None})
    for batch_size in (3, 64):
        assert answers(model, tokenizer, batch_size=batch_size, seeds=range(100, 140), **sampled) == alone
    backwards = generate(
        model, tokenizer, prompts(40)[::-1], images(model),
        max_new_tokens=12, stop=STOP, seeds=range(139, 99, -1), batch_size=5, **sampled,  # type: ignore[arg-type]
    )  # fmt: skip
    assert backwards == alone[::-1]


def test_bf16_computes_in_bf16_and_answers_by_its_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    """Rounded to eight bits a twin of a word is as likely as the word itself, and no row is asked anew for it."""
    model = set_precision(tied_model(), "bf16-weights")
    decoder = Decoder(model, tokenizer, images(model), 12, STOP, 0.0, near_tie=NEAR_TIE["bf16"])
    rows = [Row(place, prompt, 0) for place, prompt in enumerate(prompts(40)) if place % 5 == 1]
    _, logits, cache = decoder._read(rows)
    assert torch.equal(logits, logits.bfloat16().float()), "the head's output had eight bits"
    assert {buffer.dtype for buffer in cache.filled_buffers()} == {torch.bfloat16}  # type: ignore[union-attr]
    assert len(decoder.decode(rows)) == len(rows)
    for batch_size in (1, 64):
        first, again = (answers(model, tokenizer, batch_size=batch_size, near_tie=0.0) for _ in range(2))
        assert first == again and len(first) == 40


def test_a_token_at_the_edge_of_the_likeliest_is_a_near_tie(tokenizer: PreTrainedTokenizerFast) -> None:
    model = sharp_model()
    decoder = Decoder(model, tokenizer, images(model), 12, STOP, 1.0, top_k=2)
    row = Row(0, prompts(1)[0], 0)
    noise = Row(0, prompts(1)[0], 0).gumbel(6)

    def chosen(*wanted: float) -> tuple[int, float]:
        """The token and its margin where logits and noise add up to these."""
        row.noise.manual_seed(0)
        (token,), (margin,) = decoder._choose(torch.tensor([wanted]), [row])
        return token, margin

    low = int(noise.argmin())
    likeliest = [5.0 if place == low else -9.0 for place in range(6)]
    high = int(noise.argmax())
    clear = list(likeliest)
    clear[high] = 4.9
    assert chosen(*clear)[0] == high and chosen(*clear)[1] > 0.1
    other = next(place for place in range(6) if place not in (low, high))
    close = list(clear)
    close[other] = 4.9 - 1e-4
    token, margin = chosen(*close)
    assert token == high and 0 < margin < 1e-3, "rounding could leave it out"


def test_the_end_token_is_none_of_the_first(tokenizer: PreTrainedTokenizerFast) -> None:
    model = sharp_model()
    ended = [answer for answer in answers(model, tokenizer, stop="never") if len(answer.split()) < 3]
    assert ended, "some answers end early"
    longer = answers(model, tokenizer, stop="never", min_new_tokens=3)
    assert all(len(answer.split()) >= 3 for answer in longer)
    assert longer == answers(model, tokenizer, stop="never", min_new_tokens=3, batch_size=1)


def test_sampling_without_seeds_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(AssertionError, match="a seed a prompt"):
        answers(tiny_model(), tokenizer, temperature=0.2)
