"""Token ids and labels with real tokenizers: words, byte-level BPE, and BPE with LLaMA's word marks."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lntune.errors import UserError
from lntune.model.encode import (
    IGNORE,
    IMAGE_ID,
    EncodedSample,
    MaskMisaligned,
    MaskReport,
    cut,
    cut_all,
    encode_prompt,
    encode_whole,
    read_encoded,
    write_encoded,
)
from lntune.model.prompts import IMAGE, Rendered, Turn, render, render_prompt
from made_up import MADE_UP

ONE = [Turn("user", "<image>\nWhat is this?"), Turn("assistant", "A cat.")]
SEVERAL = [
    *ONE,
    Turn("user", "Is it red?"),
    Turn("assistant", "No, it is black."),
    Turn("user", "Why?"),
    Turn("assistant", "It is a cat, 猫."),
]
CAPTION = [Turn("user", "<image>"), Turn("assistant", "a red ball on grass")]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
LINES = [render(name, SEVERAL).text for name in ("v0", "v1", "llama_2")] + [render("plain", CAPTION).text]


def fast(tokenizer):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(LINES, trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False))
    return fast(tokenizer)


def byte_level(use_regex=True):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return fast(tokenizer)


def word_marks():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    special = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([line.replace("猫", "") for line in LINES], trainer)
    return fast(tokenizer)


WORDS, BYTES, MARKS = word_level(), byte_level(), word_marks()
TOKENIZERS = pytest.mark.parametrize("tokenizer", [WORDS, BYTES, MARKS], ids=["words", "bytes", "marks"])
STRADDLING = byte_level(use_regex=False)  # without the regex, merges run across blanks and punctuation


def runs(labels):
    """The stretches of labels between the IGNOREs."""
    found, inside = [], False
    for label in labels:
        if label != IGNORE:
            found = found if inside else [*found, []]
            found[-1].append(label)
        inside = label != IGNORE
    return found


def sample_of(tokenizer: Any, rendered: Rendered, image: int | None, max_length: int, **options: Any) -> EncodedSample:
    (whole,) = encode_whole(tokenizer, [(rendered, image)])
    if isinstance(whole, str):
        raise MaskMisaligned(whole)
    return cut(whole, max_length, **options)


def test_word_level_sample_to_the_token():
    sample = sample_of(WORDS, render("v1", ONE, system=""), image=7, max_length=64)
    tokens = [t if t == IMAGE_ID else WORDS.convert_ids_to_tokens(t) for t in sample.input_ids]
    expected = [
        "<s>",
        "USER",
        ":",
        IMAGE_ID,
        "What",
        "is",
        "this",
        "?",
        "ASSISTANT",
        ":",
        "A",
        "cat",
        ".",
        "</s>",
    ]
    assert tokens == expected
    assert sample.labels == [IGNORE] * 10 + sample.input_ids[10:]
    assert sample.labels[-1] == WORDS.eos_token_id
    assert sample.image == 7


def test_byte_level_sample_to_the_token():
    sample = sample_of(BYTES, render("v0", ONE, system=""), image=0, max_length=64)
    assert sample.input_ids[0] == BYTES.bos_token_id
    assert sample.input_ids.count(IMAGE_ID) == 1
    assert BYTES.decode([label for label in sample.labels if label != IGNORE]) == " A cat.\n###"
    unlabelled = [i for i, label in zip(sample.input_ids, sample.labels, strict=True) if label == IGNORE]
    before = unlabelled[1 : unlabelled.index(IMAGE_ID)]
    assert BYTES.decode(before) == "### Human: "
    assert BYTES.decode(unlabelled[unlabelled.index(IMAGE_ID) + 1 :]) == "\nWhat is this?\n### Assistant:"


@pytest.mark.parametrize("template", ["v0", "v1", "llama_2"])
@TOKENIZERS
def test_several_turns_label_their_answers_and_nothing_else(tokenizer, template):
    rendered = render(template, SEVERAL)
    sample = sample_of(tokenizer, rendered, image=0, max_length=1000)
    assert all(label in (IGNORE, token) for label, token in zip(sample.labels, sample.input_ids, strict=True))
    answers = runs(sample.labels)
    assert len(answers) == 3
    if tokenizer is BYTES:  # the only one of the three that loses no character
        assert [tokenizer.decode(a) for a in answers] == [rendered.text[i:j] for i, j in rendered.answers]
    if template != "v0":
        assert [a[-1] for a in answers] == [tokenizer.eos_token_id] * 3


@pytest.mark.parametrize("template", ["v0", "v1", "llama_2"])
@TOKENIZERS
def test_prompt_ids_are_the_beginning_of_the_training_ids(tokenizer, template):
    sample = sample_of(tokenizer, render(template, SEVERAL), image=0, max_length=1000)
    starts = [
        i for i, label in enumerate(sample.labels) if label != IGNORE and (i == 0 or sample.labels[i - 1] == IGNORE)
    ]
    for number, start in enumerate(starts):
        prompt = render_prompt(template, SEVERAL[: 2 * number + 1])
        assert encode_prompt(tokenizer, prompt) == sample.input_ids[:start]


@TOKENIZERS
def test_plain_trains_on_everything_behind_the_image(tokenizer):
    sample = sample_of(tokenizer, render("plain", CAPTION), image=3, max_length=64)
    assert sample.input_ids[:2] == [tokenizer.bos_token_id, IMAGE_ID]
    assert sample.labels == [IGNORE, IGNORE, *sample.input_ids[2:]]
    assert encode_prompt(tokenizer, render_prompt("plain", CAPTION[:1])) == sample.input_ids[:2]


def test_caption_of_a_character_without_a_token_keeps_its_bytes_labelled():
    caption = [CAPTION[0], Turn("assistant", "猫")]
    sample = sample_of(MARKS, render("plain", caption), image=0, max_length=64)
    labelled = MARKS.convert_ids_to_tokens(sample.labels[2:])
    assert labelled[:4] == ["▁", "<0xE7>", "<0x8C>", "<0xAB>"]


def test_text_without_an_image():
    sample = sample_of(BYTES, render("v1", [Turn("user", "Hi"), Turn("assistant", "Hello!")]), None, 1000)
    assert sample.image is None
    assert IMAGE_ID not in sample.input_ids
    with pytest.raises(AssertionError, match="an image and a placeholder go together"):
        sample_of(BYTES, render("v1", ONE), None, 1000)


def test_token_across_an_answers_boundary_is_refused():
    rendered = render("v1", ONE, system="")
    offsets = STRADDLING(rendered.text[7:], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    boundary = rendered.answers[0][0] - 7
    assert any(start < boundary < end for start, end in offsets)
    with pytest.raises(MaskMisaligned, match=r"the token '.*' at character \d+ straddles the boundary of an answer"):
        sample_of(STRADDLING, rendered, image=0, max_length=64)


def test_truncation_cuts_the_end_and_counts_the_images_tokens():
    whole = sample_of(WORDS, render("v1", ONE, system=""), image=0, max_length=14)
    assert len(whole.input_ids) == 14
    cut = sample_of(WORDS, render("v1", ONE, system=""), image=0, max_length=11)
    assert cut.input_ids == whole.input_ids[:11]
    assert cut.labels == whole.labels[:11]
    assert sample_of(WORDS, render("v1", ONE, system=""), 0, 11 + 255, image_tokens=256) == cut
    with pytest.raises(MaskMisaligned, match="after 10 tokens no token of an answer is left"):
        sample_of(WORDS, render("v1", ONE, system=""), image=0, max_length=10)
    with pytest.raises(MaskMisaligned, match="after 3 tokens the image is cut off"):
        sample_of(WORDS, render("v1", ONE, system=""), image=0, max_length=3)


def test_cut_all_counts_and_keeps_the_order():
    long_question = [Turn("user", "Is it red? " * 30), Turn("assistant", "No.")]
    long_answer = [Turn("user", "Is it red?"), Turn("assistant", "No. " * 30)]
    samples = [
        (render("v1", ONE, system=""), 5),
        (render("v1", long_question, system=""), None),
        (render("v1", long_answer, system=""), None),
        (render("v1", SEVERAL, system=""), 6),
    ]
    encoded, report = cut_all(encode_whole(WORDS, samples), 60, threshold=0.25)
    assert report == MaskReport(total=4, misaligned=1, truncated=1)
    assert [sample.image for sample in encoded] == [5, None, 6]
    assert [len(sample.input_ids) for sample in encoded][1] == 60
    assert encoded[0] == sample_of(WORDS, samples[0][0], 5, 60)


def test_cut_all_stops_above_the_threshold():
    samples = [(render("v1", ONE, system=""), 0)] * 3 + [(render("v1", [Turn("user", "Why? " * 99), ONE[1]]), None)]
    with pytest.raises(UserError) as caught:
        cut_all(encode_whole(WORDS, samples), 60, threshold=0.2, source="chat.json")
    assert str(caught.value) == (
        "chat.json: the loss mask of 1 of 4 samples does not line up with their tokens "
        "(allowed: a share of 0.2), first sample 3: after 60 tokens no token of an answer is left; "
        "choose another prompt template or a larger maximum length, or allow a larger share"
    )
    with pytest.raises(UserError, match=r"of 3 of 3 samples .* first sample 0: the token"):
        cut_all(encode_whole(STRADDLING, samples[:3]), 60, threshold=1.0)
    assert cut_all(encode_whole(WORDS, []), 60, threshold=0.0) == ([], MaskReport(0, 0, 0))


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES, MARKS, STRADDLING], ids=["words", "bytes", "marks", "straddling"])
def test_samples_tokenized_together_and_stored_are_those_tokenized_one_by_one(tokenizer: Any, tmp_path: Path) -> None:
    marked = [Turn("user", "<image>\nIs </s> a <s>?"), Turn("assistant", "No, </s> is <unk> 猫.")]
    texts = [render("v1", SEVERAL), render("plain", CAPTION), render("v1", marked), render("llama_2", ONE[:2])]
    samples: list[tuple[Rendered, int | None]] = [(text, place) for place, text in enumerate(texts)]
    samples += [(render("v0", [Turn("user", "Is it red?"), ONE[1]]), None)]
    alone = [whole for one in samples for whole in encode_whole(tokenizer, [one])]
    found = {*map(type, alone)}
    assert found == ({str, EncodedSample} if tokenizer is STRADDLING else {EncodedSample})
    members = [f"{place}.jpg" for place in range(4)]
    held = write_encoded(tmp_path, "images.zip", members, encode_whole(tokenizer, samples))
    assert read_encoded(tmp_path) == ("images.zip", members, alone)
    kept = [one for one in alone if isinstance(one, EncodedSample)]
    assert held == {"samples": 5, "tokens": sum(len(one.input_ids) for one in kept), "misaligned": 5 - len(kept)}


# --- data that look like marks ---------------------------------------------------------------------------------------

WORDS_SAID = some.sampled_from(
    ["</s>", "<s>", "<unk>", "<pad>", " ", "\n", "cat", "red?", "猫", "\0", "\x1b", "<", "/s>"]
)
SAID = some.lists(WORDS_SAID, min_size=1, max_size=8).map("".join)
MARKS_OF = {"v0": (0, 0), "v1": (0, 2), "llama_2": (1, 2)}
"""How many <s> and </s> a conversation of two questions holds by its template, besides the first."""


@given(template=some.sampled_from(list(MARKS_OF)), said=some.tuples(SAID, SAID, SAID, SAID))
@TOKENIZERS
@MADE_UP
def test_data_never_speak_as_template(tokenizer, template, said):
    turns = [Turn(("user", "assistant")[k % 2], text) for k, text in enumerate(said)]
    turns[0] = Turn("user", f"{IMAGE}\n{said[0]}")
    rendered = render(template, turns, system="")
    sample = sample_of(tokenizer, rendered, image=0, max_length=10_000)
    begins, ends = MARKS_OF[template]
    assert sample.input_ids.count(tokenizer.bos_token_id) == 1 + begins
    assert sample.input_ids.count(tokenizer.eos_token_id) == sample.labels.count(tokenizer.eos_token_id) == ends
    assert tokenizer.pad_token_id not in sample.input_ids
    if tokenizer is BYTES:  # which loses no character
        spoken = "".join(rendered.text[start:end] for start, end in rendered.answers)
        assert tokenizer.decode([label for label in sample.labels if label != IGNORE]) == spoken
    prompt = render_prompt(template, turns[:3], system="")
    assert encode_prompt(tokenizer, prompt) == sample.input_ids[: len(encode_prompt(tokenizer, prompt))]


@given(
    said=some.lists(
        some.text(some.characters(codec="utf-8", exclude_characters="<"), min_size=1), min_size=2, max_size=2
    )
)
@TOKENIZERS
@MADE_UP
def test_ordinary_text_has_the_tokenizers_own_ids(tokenizer, said):
    rendered = render("v1", [Turn("user", said[0]), Turn("assistant", said[1])], system="")
    assert (
        sample_of(tokenizer, rendered, None, 10_000).input_ids[1:]
        == (tokenizer(rendered.text, add_special_tokens=False)["input_ids"])
    )
