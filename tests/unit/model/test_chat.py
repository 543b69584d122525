"""The template ``chat``: the published form of each family's conversations, what is trained on, and what is refused.

The templates are written anew here, in as few words as give the published form.
"""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lntune.errors import UserError
from lntune.model.chat import ChatTemplate, layout
from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample, cut_all, encode_prompt, encode_whole
from lntune.model.prompts import CHAT, Turn, named, render, render_prompt, stop_string, stop_strings

TURNS = [Turn("user", "<image>\nWhat is this? "), Turn("assistant", " A red ball."), Turn("user", "Where?"),
         Turn("assistant", "On </s> grass.")]  # fmt: skip

LLAMA_3 = """{{ bos_token }}{% set said = messages[0].content if messages[0].role == 'system' else '' -%}
<|start_header_id|>system<|end_header_id|>

Today Date: {{ date_string if date_string is defined else strftime_now('%d %b %Y') }}

{{ said }}<|eot_id|>{% for one in messages if one.role != 'system' %}<|start_header_id|>{{ one.role }}<|end_header_id|>

{{ one.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt -%}
<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""

MISTRAL = """{{ bos_token }}{% for one in messages %}{% if one.role == 'system' -%}
{{ raise_exception('no system role') }}
{%- elif one.role == 'user' %}[INST] {{ one.content }}[/INST]{% else %} {{ one.content }}{{ eos_token }}{% endif %}
{%- endfor %}"""

CHATML = """{% if messages[0].role != 'system' %}<|im_start|>system
You are helpful.<|im_end|>
{% endif %}{% for one in messages %}<|im_start|>{{ one.role }}
{{ one.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

THINKING = """{% for one in messages %}<|im_start|>{{ one.role }}
{% if loop.last and one.role == 'assistant' %}<think>

</think>

{% endif %}{{ one.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""

GEMMA = """{{ bos_token }}{% for one in messages if one.role != 'system' %}<start_of_turn>
{{- 'model' if one.role == 'assistant' else 'user' }}
{% if loop.first and messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}{{ one.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

FORMS = {  # template, special tokens (start, end, others), and the conversation, answers between « and »
    "llama 3": (LLAMA_3, "<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"], (
        "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat is this?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«A red ball.<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\nWhere?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«On </s> grass.<|eot_id|>»"
    )),
    "mistral": (MISTRAL, "<s>", "</s>", ["[INST]", "[/INST]"], (
        "[INST] <image>\nWhat is this?[/INST]« A red ball.</s>»[INST] Where?[/INST]« On </s> grass.</s>»"
    )),
    "qwen 2": (CHATML, None, "<|im_end|>", ["<|im_start|>"], (
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\n<image>\nWhat is this?<|im_end|>\n"
        "<|im_start|>assistant\n«A red ball.<|im_end|>»\n<|im_start|>user\nWhere?<|im_end|>\n"
        "<|im_start|>assistant\n«On </s> grass.<|im_end|>»\n"
    )),
    "smollm 2": (CHATML, "<|im_start|>", "<|im_end|>", [], (  # whose start token begins every turn
        "system\nYou are helpful.<|im_end|>\n<|im_start|>user\n<image>\nWhat is this?<|im_end|>\n"
        "<|im_start|>assistant\n«A red ball.<|im_end|>»\n<|im_start|>user\nWhere?<|im_end|>\n"
        "<|im_start|>assistant\n«On </s> grass.<|im_end|>»\n"
    )),
    "qwen 3": (THINKING, None, "<|im_end|>", ["<|im_start|>"], (
        "<|im_start|>user\n<image>\nWhat is this?<|im_end|>\n<|im_start|>assistant\n«A red ball.<|im_end|>»\n"
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«On </s> grass.<|im_end|>»\n"
    )),
    "gemma 3": (GEMMA, "<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"], (
        "<start_of_turn>user\n<image>\nWhat is this?<end_of_turn>\n<start_of_turn>model\n«A red ball.<end_of_turn>»\n"
        "<start_of_turn>user\nWhere?<end_of_turn>\n<start_of_turn>model\n«On </s> grass.<end_of_turn>»\n"
    )),
}  # fmt: skip


def tokenizer(template: str | None, start: str | None, end: str, others: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with these special tokens."""
    plain = Tokenizer(models.BPE({letter: at for at, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    plain.add_special_tokens([one for one in (start, end, *others) if one])
    named = {"bos_token": start} if start else {}
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=end, chat_template=template, **named)


@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_in_its_published_form(form: str) -> None:
    template, start, end, others, marked = FORMS[form]
    words = tokenizer(template, start, end, others)
    chat = layout(CHAT, words)
    found = render(chat, TURNS)
    assert found.text == marked.replace("«", "").replace("»", "")
    wanted = [part.partition("»")[0] for part in marked.split("«")[1:]]
    assert [found.text[a:b] for a, b in found.answers] == wanted
    assert stop_string(chat) == ("<end_of_turn>" if form == "gemma 3" else end)
    assert [found.text[a:b] for a, b in found.said] == [turn.text.strip() for turn in TURNS]
    for turns in (1, 3):  # a prompt is the beginning of what was trained on, up to the answer
        asked = render_prompt(chat, TURNS[:turns]).text
        whole = render(chat, TURNS[: turns + 1])
        assert asked == whole.text[: whole.answers[-1][0]]
    (sample,) = encode_whole(words, [(found, 0)])
    assert isinstance(sample, EncodedSample) and sample.input_ids.count(IMAGE_ID) == 1
    trained = [label for label in sample.labels if label != IGNORE]
    assert words.decode(trained) == "".join(wanted) and trained.count(words.convert_tokens_to_ids(chat.stop)) == 2
    ids = encode_prompt(words, render_prompt(chat, TURNS[:3]))
    assert ids == sample.input_ids[: len(ids)] and (ids[0] == words.bos_token_id) == (start is not None)


def test_a_system_sentence_of_ones_own() -> None:
    chat = {form: ChatTemplate(tokenizer(*given[:4])) for form, given in FORMS.items()}
    for system in (None, ""):
        assert render(chat["qwen 2"], TURNS, system=system).text.startswith("<|im_start|>system\nYou are helpful.")
    assert render(chat["qwen 2"], TURNS, system="Be brief.").text.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert "user\nBe brief.\n\n<image>" in render(chat["gemma 3"], TURNS, system="Be brief.").text
    with pytest.raises(UserError, match="chat template fails: no system role; choose another template"):
        render(chat["mistral"], TURNS, system="Be brief.")


def test_masks_that_do_not_line_up_are_counted() -> None:
    """A tokenizer that joins the answer's first letter to what stands before it."""
    words = tokenizer(*FORMS["gemma 3"][:4])
    joined = Tokenizer.from_str(words.backend_tokenizer.to_str())
    letters = {letter: at for at, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())} | {"ĊA": 256}
    joined.model = models.BPE(letters, [("Ċ", "A")])
    joined.pre_tokenizer = pre_tokenizers.ByteLevel(False, use_regex=False)
    joined.add_special_tokens(["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"])
    words = PreTrainedTokenizerFast(tokenizer_object=joined, bos_token="<bos>", eos_token="<eos>", chat_template=GEMMA)
    chat = layout(CHAT, words)
    asked = [(render(chat, [TURNS[0], Turn("assistant", text)]), 0) for text in ("A ball.", "a ball.")]
    kept, report = cut_all(encode_whole(words, asked), 200, threshold=0.5)
    assert (len(kept), report.misaligned, report.total) == (1, 1, 2)


@pytest.mark.parametrize(
    ("template", "because"),
    [
        (None, "chat template fails: .*; choose another"),
        ("{% for one in messages %}{{ one.content }}\n{% endfor %}", "ends no answer with a special token"),
        ("{{ messages[0].content }}", "does not say each turn once"),
        ("{{ raise_exception('no ' + missing.word) }}", "chat template fails: .*missing"),
    ],
)
def test_templates_that_cannot_be_used(template: str | None, because: str) -> None:
    with pytest.raises(UserError, match=because) as refused:
        layout(CHAT, tokenizer(template, "<s>", "</s>", []))
    assert "\n" not in str(refused.value)


def test_the_named_templates_are_as_they_were() -> None:
    assert layout("v1", tokenizer(None, "<s>", "</s>", [])) is named("v1")
    assert stop_strings(["v0", CHAT, "v1"]) == ["###", "</s>"]
