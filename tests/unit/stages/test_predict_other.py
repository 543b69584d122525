"""A LLaVA-1.5 in miniature, through the classes that load the real one: asked, whatever the batch, and refused."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from checkout import ROOT
from lntune.config.protocol import Prompting, Shot
from lntune.data.samples import Question, read_answers, write_questions
from lntune.errors import UserError
from lntune.stages import predict_other
from lntune.stages.asked import Execution
from lntune.store.job import Job

TEMPLATE = (
    "{% for message in messages %}{{ message.role.upper() }}: "
    "{% for item in message.content if item.type == 'image' %}<image>\n{% endfor %}"
    "{% for item in message.content if item.type == 'text' %}{{ item.text }}{% endfor %}"
    "{{ ' ' if message.role == 'user' else '</s>' }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP with QuickGELU, a projector of two layers, a LLaMA in float16 whose config asks for sampling."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "workflow" / "weights" / "vicuna-7b")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14,
        hidden_act="quick_gelu",
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(tokenizer),
        initializer_range=0.5, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
    )  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image, image_seq_length=4, vision_feature_layer=-2,
        projector_hidden_act="gelu", vision_feature_select_strategy="default",
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).half()
    model.generation_config.update(do_sample=True, temperature=5.0, max_new_tokens=1)
    model.save_pretrained(folder)
    pixels = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    LlavaProcessor(
        image_processor=pixels, tokenizer=tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE, image_token="<image>",
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number in range(3):
            pixels = torch.randint(0, 255, (40 + 9 * number, 60, 3), dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / "one.png")
            archive.write(folder / "one.png", f"{number}.png")
    texts = [
        "Is there a cat ?",
        "What is to the left of the red tree in the image ?",
        "How many dogs ?",
        "Describe it .",
    ]
    write_questions(folder, "images.zip", [Question(f"q{k}", f"{k % 3}.png", texts[k % 4]) for k in range(12)])
    return folder


def job(model: Path, asked: Path, out: Path, batch: int, **settings: Any) -> Job[predict_other.Settings, Execution]:
    shots = (Shot(question="Is it red ?", answer="yes"),)
    given = {"prompting": Prompting(max_new_tokens=6, shots=shots), "temperature": 0.0, "top_k": None}
    chosen = predict_other.Settings(**{**given, "min_new_tokens": 0, **settings})
    out.mkdir()
    inputs = {"model": model, "questions": asked, "images": asked}
    return Job("a LLaVA", chosen, Execution(batch_size=batch, threads=1), inputs, out, out)


def test_answers_are_the_models_own_whatever_the_batch(llava: Path, asked: Path, tmp_path: Path) -> None:
    alone, together = (job(llava, asked, tmp_path / name, batch) for name, batch in (("alone", 1), ("together", 8)))
    metrics = predict_other.run(alone)
    assert metrics == predict_other.run(together) and metrics["questions"] == 12
    answers = read_answers(alone.out)
    assert answers == read_answers(together.out) and len({*answers.values()}) > 4
    # As anyone would ask it: the text written out, pixels by Pillow, the likeliest token six times.
    model = LlavaForConditionalGeneration.from_pretrained(llava, dtype=torch.float32)
    assert model.model.language_model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    processor = LlavaProcessor.from_pretrained(llava, backend="pil")
    with zipfile.ZipFile(asked / "images.zip").open("1.png") as file:
        picture = Image.open(file).convert("RGB")
    text = (
        "USER: Is it red ? ASSISTANT: yes</s>USER: <image>\n"
        "What is to the left of the red tree in the image ? ASSISTANT:"
    )
    given = processor(images=picture, text=text, return_tensors="pt")
    said: list[int] = []
    for _ in range(6):
        token = int(model(**given).logits[0, -1].argmax())
        if token == processor.tokenizer.eos_token_id:
            break
        said.append(token)
        given["input_ids"] = torch.cat([given["input_ids"], torch.tensor([[token]])], 1)
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    assert processor.tokenizer.decode(said, skip_special_tokens=True).strip() == answers["q1"]


def test_sampled_answers_follow_from_the_seed(llava: Path, asked: Path, tmp_path: Path) -> None:
    found = []
    for name, batch, seed in (("a", 1, 0), ("b", 8, 0), ("c", 8, 1)):
        one = job(llava, asked, tmp_path / name, batch, temperature=2.0, top_k=50, min_new_tokens=2, seed=seed)
        predict_other.run(one)
        found.append(read_answers(one.out))
    assert found[0] == found[1] != found[2] and all(found[0].values())


def test_what_cannot_be_asked_is_one_line(llava: Path, asked: Path, tmp_path: Path) -> None:
    def refused(name: str, **files: bytes | None) -> str:
        folder = tmp_path / name
        folder.mkdir()
        for path in llava.iterdir():
            (folder / path.name).symlink_to(path)
        for file, content in files.items():
            path = folder / file.replace("__", ".")
            path.unlink()
            if content is not None:
                path.write_bytes(content)
        with pytest.raises(UserError) as error:
            predict_other.run(job(folder, asked, tmp_path / f"{name}.out", 4))
        assert "\n" not in str(error.value) and str(error.value).startswith(f"{folder}: ")
        return str(error.value)

    assert "cannot load an image-text-to-text model from it" in refused("no_weights", model__safetensors=None)
    assert "has no chat template" in refused("no_template", chat_template__jinja=None)
    assert "cannot load an image-text-to-text model from it" in refused("cut", model__safetensors=b"\0" * 9)
    config = json.loads((llava / "config.json").read_text(encoding="utf-8"))
    llm = json.dumps(config["text_config"] | {"model_type": "llama"}).encode()
    assert "cannot load an image-text-to-text model from it" in refused("an_llm", config__json=llm)
    weights = load_file(llava / "model.safetensors")
    lost = next(name for name in weights if "linear_2.bias" in name)
    del weights[lost]
    save_file(weights, tmp_path / "less", metadata={"format": "pt"})
    said = refused("less_weights", model__safetensors=(tmp_path / "less").read_bytes())
    assert "its weights lack" in said and "linear_2.bias, and 1 in all" in said
