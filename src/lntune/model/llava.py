"""A tuned model as Hugging Face's LLaVA, which transformers and vLLM read, or as a PEFT adapter of such a one.

LLaVA's projector is ``linear_2(act(linear_1(x)))``, as a connector of two layers is. For one of one layer, z = Wx + b,
linear_1 is the connector, with no activation, and linear_2 the identity. vLLM has none but GELU, which far from zero is
the identity: there linear_1 gives z + C and linear_2 takes C away, with C from the largest ``|z|`` that was seen.

PEFT's LNTuning puts a copy in the place of any module, not of norms alone. Only where all that a method tunes is in
such copies does a merged model hold it (``modules_to_save`` beside LNTuning is lost), so it carries all but LoRA.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lntune.config.training import LoraSettings
from lntune.errors import UserError
from lntune.model.chat import DATE_TEXT, layout
from lntune.model.llm import end_tokens
from lntune.model.multimodal import MultimodalModel
from lntune.model.prompts import CHAT, IMAGE, TEMPLATES
from lntune.model.vision import VisionEncoder

Activation = Literal["linear", "gelu"]

_ROWS = ("model.language_model.embed_tokens.weight", "lm_head.weight")
"""The matrices with a row for each token."""

_INTERPOLATIONS = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers
_SHARD = "5GB"


def write_llava(
    model: MultimodalModel, tokenizer: PreTrainedTokenizerFast, folder: Path, *, template: str, system: str | None,
    max_new_tokens: int, activation: Activation, largest: float,
) -> None:  # fmt: skip
    """Write config, weights in float32 and shards, processor, chat template and generation config.

    LoRA is merged into the model. ``largest`` is the largest ``|Wx + b|`` of the connector, which GELU's form needs.
    UserError where LLaVA has no place for a part.
    """
    laid_out = layout(template, tokenizer)
    prompts = (
        own_chat_template(tokenizer, system)
        if template == CHAT
        else chat_template(template, system, tokenizer.bos_token or "")
    )
    tokenizer, image = with_image_token(tokenizer)
    activation = "gelu" if isinstance(model.connector, nn.Sequential) else activation
    _merge_lora(model.llm)
    llm = {name.replace(".base_layer.", "."): value for name, value in model.llm.state_dict().items()}
    names = {_llava_name(f"llm.{name}"): value for name, value in llm.items() if ".lora_" not in name}
    state = {name: with_image_row(value, image) if name in _ROWS else value for name, value in names.items()}
    state |= _projector(model.connector, activation, largest) | _tower(model.vision.tower)
    config = _config(model, image, len(state[_ROWS[0]]), activation)
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(config)
    try:
        llava.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise UserError(f"{folder}: LLaVA's form differs from this model ({' '.join(str(error).split())})") from None
    llava.generation_config = _generation(tokenizer, laid_out.stop, max_new_tokens)
    llava.save_pretrained(folder, max_shard_size=_SHARD)
    _processor(model.vision, tokenizer, prompts).save_pretrained(folder)


def with_image_token(tokenizer: PreTrainedTokenizerFast) -> tuple[PreTrainedTokenizerFast, int]:
    """A copy of the tokenizer that knows ``<image>``, and the token's id."""
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": [IMAGE]}, replace_extra_special_tokens=False)
    image = own.convert_tokens_to_ids(IMAGE)
    assert isinstance(image, int), "one token, one id"
    return own, image


def with_image_row(rows: Tensor, image: int) -> Tensor:
    """A vocabulary's matrix with a row for the image's token: the mean, whose logit is never the one largest."""
    if image < len(rows):  # rows may be padded
        return rows
    assert image == len(rows), "the next id"
    return torch.cat([rows, rows.mean(0, keepdim=True)])


def chat_template(template: str, system: str | None, start: str) -> str:
    """The Jinja template that lays out messages as :func:`lntune.model.prompts.render_prompt` does, ``start`` first."""
    if template not in TEMPLATES:
        raise UserError(f"template {template}: is not one that can be published: {', '.join(TEMPLATES)}")
    form = TEMPLATES[template]
    sentence = form.system if system is None else system
    opening = start + form.opening
    opening += form.system_before + sentence + form.system_after if sentence else ""

    def say(text: str) -> str:
        return "{{ " + json.dumps(text) + " }}" if text else ""

    return (
        say(opening + form.first)
        + "{% for message in messages %}{% if message.role == 'user' %}"
        + "{% if not loop.first %}" + say(form.later) + "{% endif %}"
        + "{% if message.content is string %}{{ message.content }}{% else %}"
        + "{% for item in message.content if item.type == 'image' %}" + say(f"{IMAGE}\n") + "{% endfor %}"
        + "{% for item in message.content if item.type == 'text' %}{{ item.text }}{% endfor %}{% endif %}"
        + say(form.header)
        + "{% elif message.role == 'assistant' %}" + say(form.blank)
        + "{% if message.content is string %}{{ message.content }}{% else %}"
        + "{% for item in message.content %}{{ item.text }}{% endfor %}{% endif %}" + say(form.footer)
        + "{% else %}{{ raise_exception('the system sentence is a part of this template') }}{% endif %}{% endfor %}"
    )  # fmt: skip


def own_chat_template(tokenizer: PreTrainedTokenizerFast, system: str | None) -> str:
    """The tokenizer's chat template, which is given texts, the image in front, as :mod:`lntune.model.chat` does."""
    own, start, image = tokenizer.chat_template, tokenizer.bos_token or "", json.dumps(f"{IMAGE}\n")
    shown = str(tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False))
    first = f"[{{'role': 'system', 'content': {json.dumps(system)}}}]" if system else "[]"
    return (
        ("" if shown.startswith(start) else "{{ " + json.dumps(start) + " }}")
        + "{%- set ns = namespace(said=" + first + ") -%}{%- for message in messages -%}"
        + "{%- set text -%}{%- if message.content is string -%}{{ message.content }}{%- else -%}"
        + "{%- for item in message.content if item.type == 'image' -%}{{ " + image + " }}{%- endfor -%}"
        + "{%- for item in message.content if item.type == 'text' -%}{{ item.text }}{%- endfor -%}{%- endif -%}"
        + "{%- endset -%}{%- set ns.said = ns.said + [{'role': message.role, 'content': text | trim}] -%}{%- endfor -%}"
        + "{%- set messages, enable_thinking, date_string = ns.said, false, " + json.dumps(DATE_TEXT) + " -%}"
        + "{%- macro strftime_now(format) -%}{{ date_string }}{%- endmacro -%}"
        + "{%- set add_generation_prompt = messages[-1].role == 'user' -%}" + str(own)
    )  # fmt: skip


# --- the adapter -----------------------------------------------------------------------------------------------------


def write_adapter(trained: Mapping[str, Tensor], base: Path, folder: Path, lora: LoraSettings | None) -> None:
    """Write what trained, by our names, as a PEFT adapter of the untuned model that :func:`write_llava` wrote."""
    from peft import LNTuningConfig, LoraConfig, PeftConfig, get_peft_model

    llava = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    tuned = {_llava_name(name): value for name, value in trained.items()}
    tuned = {name: with_image_row(value, llava.config.image_token_index) if name in _ROWS else value
             for name, value in tuned.items()}  # fmt: skip
    if llava.config.tie_word_embeddings and _ROWS[0] in tuned:
        tuned[_ROWS[1]] = tuned[_ROWS[0]]
    wrapped = sorted({name.partition(".lora_")[0] for name in tuned if ".lora_" in name})
    whole = sorted({name.rpartition(".")[0] for name in tuned if ".lora_" not in name})
    config: PeftConfig
    if wrapped:
        assert lora is not None, "who has LoRA's weights has its settings"
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=wrapped,
                            modules_to_save=whole)  # fmt: skip
    else:
        config = LNTuningConfig(target_modules=whole)
    peft: Any = get_peft_model(llava, config, autocast_adapter_dtype=False)
    for name, value in tuned.items():
        module, _, parameter = name.partition(".lora_") if ".lora_" in name else name.rpartition(".")
        holder = peft.base_model.model.get_submodule(module)
        if ".lora_" in name:
            target = holder.get_parameter(f"lora_{parameter}")
        else:
            copies = holder.modules_to_save if wrapped else holder.ln_tuning_layers
            target = copies["default"].get_parameter(parameter)
        target.data = value.detach().clone().to(target.device)
    peft.peft_config["default"].base_model_name_or_path = base.name
    peft.save_pretrained(folder, save_embedding_layers=False)


# --- parts -----------------------------------------------------------------------------------------------------------


def _llava_name(name: str) -> str:
    """Where LLaVA has a tensor of the connector or the LLM."""
    for ours, theirs in (
        ("connector.0.", "model.multi_modal_projector.linear_1."),
        ("connector.2.", "model.multi_modal_projector.linear_2."),
        ("connector.", "model.multi_modal_projector.linear_1."),
        ("llm.model.", "model.language_model."),
        ("llm.", ""),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise AssertionError(f"{name}: of neither part")


def _merge_lora(llm: nn.Module) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in llm.modules():
        if isinstance(module, BaseTunerLayer) and not module.merged:
            module.merge()


def _projector(connector: Any, activation: Activation, largest: float) -> dict[str, Tensor]:
    if isinstance(connector, nn.Sequential):
        return {_llava_name(f"connector.{name}"): value for name, value in connector.state_dict().items()}
    weight, bias = connector.weight.detach(), connector.bias.detach()
    shift = 2 * largest + 8 if activation == "gelu" else 0.0  # GELU(z + C) is z + C from z + C = 6 on
    return {
        "model.multi_modal_projector.linear_1.weight": weight,
        "model.multi_modal_projector.linear_1.bias": bias + shift,
        "model.multi_modal_projector.linear_2.weight": torch.eye(len(bias)).to(weight),
        "model.multi_modal_projector.linear_2.bias": torch.full_like(bias, -shift),
    }


_TOWER = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1": "embeddings.patch_embedding",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""open_clip's names and transformers'."""


def _tower(tower: nn.Module) -> dict[str, Tensor]:
    """A CLIP's vision tower under transformers' names."""
    found = {}
    for name, value in tower.state_dict().items():
        _, _, within = name.partition("transformer.resblocks.")
        number, _, part = within.partition(".") if within else ("", "", name)
        start = "model.vision_tower." + (f"encoder.layers.{number}." if within else "")
        if part.startswith("attn.in_proj_"):
            kind = part.removeprefix("attn.in_proj_")
            for letter, piece in zip("qkv", value.chunk(3), strict=True):
                found[f"{start}self_attn.{letter}_proj.{kind}"] = piece.contiguous()
            continue
        module, dot, kind = part.rpartition(".")
        known = _TOWER.get(part) or (f"{_TOWER[module]}{dot}{kind}" if module in _TOWER else part)
        found[start + known] = value
    return found


def _config(model: MultimodalModel, image: int, rows: int, activation: Activation) -> LlavaConfig:
    tower = model.vision.tower
    if not hasattr(tower, "preprocess_cfg"):
        raise UserError("the vision encoder is timm's; only open_clip's CLIP can be published as LLaVA")
    block = tower.transformer.resblocks[0]
    text = copy.deepcopy(model.llm.config)
    text.vocab_size, text.dtype = rows, torch.float32  # else it would be built in what the LLM's config.json says
    text.name_or_path = ""  # a path of this machine
    vision = CLIPVisionConfig(
        hidden_size=tower.conv1.out_channels,
        intermediate_size=block.mlp.c_fc.out_features,
        num_hidden_layers=len(tower.transformer.resblocks),
        num_attention_heads=block.attn.num_heads,
        image_size=model.vision.image_size,
        patch_size=tower.conv1.kernel_size[0],
        hidden_act="quick_gelu" if isinstance(block.mlp.gelu, QuickGELU) else "gelu",
        layer_norm_eps=block.ln_1.eps,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image, image_seq_length=model.vision.tokens,
        projector_hidden_act=activation, vision_feature_layer=-2, vision_feature_select_strategy="default",
        tie_word_embeddings=bool(text.tie_word_embeddings),
    )  # fmt: skip
    config.dtype = torch.float32
    return config


def _processor(vision: VisionEncoder, tokenizer: PreTrainedTokenizerFast, template: str) -> LlavaProcessor:
    """The processor; it resizes by Pillow, as open_clip does: pixels that torchvision makes differ by up to 0.015."""
    look: Mapping[str, Any] = vision.tower.preprocess_cfg
    side, mode, interpolation = vision.image_size, look["resize_mode"], look["interpolation"]
    if mode not in ("squash", "shortest") or interpolation not in _INTERPOLATIONS:
        raise UserError(f"images resized by {mode} and {interpolation} have no form in LLaVA's processor")
    images = CLIPImageProcessorPil(
        size={"height": side, "width": side} if mode == "squash" else {"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_center_crop=mode == "shortest",
        resample=_INTERPOLATIONS[interpolation],
        image_mean=list(look["mean"]),
        image_std=list(look["std"]),
    )
    return LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=vision.tower.conv1.kernel_size[0],
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=template,
        image_token=IMAGE,
    )  # fmt: skip


def crops_beside(vision: VisionEncoder, width: int, height: int) -> bool:
    """Whether transformers' processor crops an image of this size one pixel beside torchvision, which open_clip takes.

    Half a pixel is rounded down there, here to the even number.
    """
    side = vision.image_size
    return vision.tower.preprocess_cfg["resize_mode"] == "shortest" and (
        (int(side * max(width, height) / min(width, height)) - side) % 4 == 3
    )


def _generation(tokenizer: PreTrainedTokenizerFast, stop: str, max_new_tokens: int) -> GenerationConfig:
    """Greedy; an answer ends at a token that says ``stop``, or else at that string, found by generate()'s tokenizer."""
    ends = end_tokens(tokenizer, stop)
    said = tokenizer(stop, add_special_tokens=False)["input_ids"]
    if len(said) == 1:
        ends = sorted({*ends, *said})
    seen = stop in tokenizer.decode(said, skip_special_tokens=True)
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=padding, do_sample=False,
        max_new_tokens=max_new_tokens, **({"stop_strings": [stop]} if seen and len(said) > 1 else {}),
    )  # fmt: skip
