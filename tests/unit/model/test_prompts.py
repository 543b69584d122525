"""Golden strings of every prompt template, and the agreement of training and generation to the character."""

import pytest

from lntune.errors import UserError
from lntune.model.prompts import IMAGE, TEMPLATES, Turn, render, render_prompt, stop_string

ONE = [Turn("user", "<image>\nWhat is this?"), Turn("assistant", "A cat.")]
SEVERAL = [
    Turn("user", "<image>\nWhat is this?"),
    Turn("assistant", "A cat."),
    Turn("user", "Is it red?"),
    Turn("assistant", "No."),
    Turn("user", "Why?"),
    Turn("assistant", "It is a cat."),
]
TEXT_ONLY = [Turn("user", "Hi"), Turn("assistant", "Hello!"), Turn("user", "Bye"), Turn("assistant", "Bye!")]
CAPTION = [Turn("user", "<image>"), Turn("assistant", "a red ball on grass")]

V0_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
V1_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
LLAMA_2_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the "
    "user provides, and assist the user with a variety of tasks using natural language."
)

VICUNA_EXAMPLE = (
    "###Human: What are the key differences between renewable and non-renewable energy sources?"
    "###Assistant: Renewable energy sources are those that can be replenished naturally in a relatively short amount "
    "of time, such as solar, wind, hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, "
    "are finite and will eventually be depleted, such as coal, oil, and natural gas. Here are some key differences "
    "between renewable and non-renewable energy sources:\n1. Availability: Renewable energy sources are virtually "
    "inexhaustible, while non-renewable energy sources are finite and will eventually run out.\n2. Environmental "
    "impact: Renewable energy sources have a much lower environmental impact than non-renewable sources, which can "
    "lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n3. Cost: Renewable energy "
    "sources can be more expensive to initially set up, but they typically have lower operational costs than "
    "non-renewable sources.\n4. Reliability: Renewable energy sources are often more reliable and can be used in more "
    "remote locations than non-renewable sources.\n5. Flexibility: Renewable energy sources are often more flexible "
    "and can be adapted to different situations and needs, while non-renewable sources are more rigid and "
    "inflexible.\n6. Sustainability: Renewable energy sources are more sustainable over the long term, while "
    "non-renewable sources are not, and their depletion can lead to economic and social instability.\n###"
)
GOLDEN = [
    ("plain", CAPTION, "<image>a red ball on grass\n"),
    ("v0", ONE, V0_SYSTEM + "\n\n### Human: <image>\nWhat is this?\n### Assistant: A cat.\n###"),
    (
        "v0",
        SEVERAL,
        V0_SYSTEM + "\n\n### Human: <image>\nWhat is this?\n### Assistant: A cat.\n### Human: Is it red?"
        "\n### Assistant: No.\n### Human: Why?\n### Assistant: It is a cat.\n###",
    ),
    (
        "v0",
        TEXT_ONLY,
        V0_SYSTEM + "\n\n### Human: Hi\n### Assistant: Hello!\n### Human: Bye\n### Assistant: Bye!\n###",
    ),
    ("vicuna_v0", ONE, V0_SYSTEM + VICUNA_EXAMPLE + "Human: <image>\nWhat is this?###Assistant: A cat.###"),
    (
        "vicuna_v0",
        SEVERAL,
        V0_SYSTEM + VICUNA_EXAMPLE + "Human: <image>\nWhat is this?###Assistant: A cat.###Human: Is it red?"
        "###Assistant: No.###Human: Why?###Assistant: It is a cat.###",
    ),
    ("v1", ONE, V1_SYSTEM + " USER: <image>\nWhat is this? ASSISTANT: A cat.</s>"),
    (
        "v1",
        SEVERAL,
        V1_SYSTEM + " USER: <image>\nWhat is this? ASSISTANT: A cat.</s>USER: Is it red? ASSISTANT: No.</s>"
        "USER: Why? ASSISTANT: It is a cat.</s>",
    ),
    ("v1", TEXT_ONLY, V1_SYSTEM + " USER: Hi ASSISTANT: Hello!</s>USER: Bye ASSISTANT: Bye!</s>"),
    (
        "llama_2",
        ONE,
        "[INST] <<SYS>>\n" + LLAMA_2_SYSTEM + "\n<</SYS>>\n\n<image>\nWhat is this? [/INST] A cat. </s>",
    ),
    (
        "llama_2",
        SEVERAL,
        "[INST] <<SYS>>\n" + LLAMA_2_SYSTEM + "\n<</SYS>>\n\n<image>\nWhat is this? [/INST] A cat. </s>"
        "<s>[INST] Is it red? [/INST] No. </s><s>[INST] Why? [/INST] It is a cat. </s>",
    ),
    (
        "llama_2",
        TEXT_ONLY,
        "[INST] <<SYS>>\n" + LLAMA_2_SYSTEM + "\n<</SYS>>\n\nHi [/INST] Hello! </s><s>[INST] Bye [/INST] Bye! </s>",
    ),
]

WITHOUT_SYSTEM = [
    ("v0", "### Human: Hi\n### Assistant: Hello!\n### Human: Bye\n### Assistant: Bye!\n###"),
    ("v1", "USER: Hi ASSISTANT: Hello!</s>USER: Bye ASSISTANT: Bye!</s>"),
    ("llama_2", "[INST] Hi [/INST] Hello! </s><s>[INST] Bye [/INST] Bye! </s>"),
]

ANSWERS = {  # what the model must produce for an answer "No."
    "v0": " No.\n###",
    "vicuna_v0": " No.###",
    "v1": " No.</s>",
    "llama_2": " No. </s>",
}


@pytest.mark.parametrize(("template", "turns", "text"), GOLDEN)
def test_training_string_is_golden(template, turns, text):
    assert render(template, turns).text == text


@pytest.mark.parametrize(("template", "text"), WITHOUT_SYSTEM)
def test_empty_system_leaves_no_separator(template, text):
    assert render(template, TEXT_ONLY, system="").text == text
    assert (
        render_prompt(template, TEXT_ONLY[:3], system="").text
        == text[: render(template, TEXT_ONLY, system="").answers[1][0]]
    )


def test_system_override_takes_the_place_of_the_templates_own():
    assert render("v0", ONE, system="Be {brief}.").text.startswith("Be {brief}.\n\n### Human: <image>\n")
    assert render("v1", ONE, system="Be brief.").text.startswith("Be brief. USER: <image>\n")
    assert render("llama_2", ONE, system="Be brief.").text.startswith(
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n<image>\n"
    )


@pytest.mark.parametrize(("template", "turns", "text"), GOLDEN)
def test_prompt_is_what_training_showed_before_each_answer(template, turns, text):
    rendered = render(template, turns)
    assert len(rendered.answers) == len(turns) // 2
    for number, (start, end) in enumerate(rendered.answers):
        prompt = render_prompt(template, turns[: 2 * number + 1]).text
        assert prompt == text[:start]
        assert text[:end].endswith(stop_string(template))
        answer = text[start:end].removesuffix(stop_string(template)).strip()
        assert answer == turns[2 * number + 1].text


@pytest.mark.parametrize("template", ANSWERS)
def test_answer_span_runs_from_the_header_to_the_end_mark(template):
    rendered = render(template, SEVERAL)
    spans = [rendered.text[start:end] for start, end in rendered.answers]
    assert spans[1] == ANSWERS[template]


def test_plain_answer_is_the_caption_and_its_line_break():
    rendered = render("plain", CAPTION)
    assert rendered.answers == [(len(IMAGE), len(rendered.text))]
    assert render_prompt("plain", CAPTION[:1]).text == IMAGE


def test_image_may_come_after_text_only_shots():
    turns = [*TEXT_ONLY[:2], Turn("user", "<image>\nDescribe it.")]
    assert (
        render_prompt("v1", turns, system="").text
        == "USER: Hi ASSISTANT: Hello!</s>USER: <image>\nDescribe it. ASSISTANT:"
    )


def test_end_marks():
    assert {name: stop_string(name) for name in TEMPLATES} == {
        "plain": "\n",
        "v0": "###",
        "vicuna_v0": "###",
        "v1": "</s>",
        "llama_2": "</s>",
    }


@pytest.mark.parametrize(
    ("template", "turns", "message"),
    [
        ("lama_2", ONE, "there is no prompt template 'lama_2'"),
        ("chatml", ONE, "choose one of plain, v0, vicuna_v0, v1, llama_2"),
        ("v1", [], "must end with the assistant's turn"),
        ("v1", ONE[:1], "must end with the assistant's turn"),
        ("v1", [*ONE, ONE[1]], "turn 3 of a conversation is by 'assistant': it must be by 'user'"),
        (
            "v1",
            [Turn("user", "What?\n<image>"), ONE[1]],
            "turn 1 of a conversation: <image> may stand once, at the front",
        ),
        (
            "v1",
            [Turn("user", "<image><image>"), ONE[1]],
            "turn 1 of a conversation: <image> may stand once, at the front",
        ),
        (
            "v1",
            [Turn("user", "What?"), Turn("assistant", "<image>")],
            "turn 2 of a conversation: <image> may stand once",
        ),
        ("v1", [*ONE, *ONE], "shows 2 images: it may show one"),
        ("plain", ONE, "the user's text must be <image>"),
        ("plain", [*TEXT_ONLY[:2], *CAPTION], "the user's text must be <image>"),
    ],
)
def test_malformed_conversations_are_refused(template, turns, message):
    with pytest.raises(UserError) as caught:
        render(template, turns)
    assert message in str(caught.value)


def test_prompt_ends_with_the_user():
    with pytest.raises(UserError, match="a prompt must end with the user's turn"):
        render_prompt("v1", ONE)


def test_plain_has_no_place_for_a_system_sentence():
    assert render("plain", CAPTION, system="").text == "<image>a red ball on grass\n"
    with pytest.raises(UserError, match="'plain' has no place for a system sentence"):
        render("plain", CAPTION, system="Be brief.")
