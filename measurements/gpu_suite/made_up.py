"""What the parts run on: models of a shape with random weights, drawn where they compute; images; a tokenizer."""

import gc
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast

from lntune.config.llm_shape import LlmShape
from lntune.config.training import LoraSettings, Precision
from lntune.data.images import decode
from lntune.estimate.memory import Setup
from lntune.estimate.shapes import LLMS, VISIONS, VisionShape
from lntune.estimate.training_step import build_model
from lntune.model.device import device
from lntune.model.multimodal import MultimodalModel
from lntune.model.vision import VisionEncoder

IMAGES = 64

FIRST_WORD = 3
"""Ids before it are <unk>, <s> and </s>."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the models and of what they are given: positions and tokens of a sample, samples a step, questions.

    ``text`` and ``answers`` are a typical sample's when tuning (lntune.estimate.hours), ``caption`` the same of
    pretraining the connector.
    """

    llm: LlmShape
    vision: VisionShape
    length: int
    text: int
    answers: int
    caption: int
    lora: LoraSettings
    global_batch: int
    micro_batch: int
    questions: int
    new_tokens: int


def _paper(llm: LlmShape) -> Shape:
    return Shape(
        llm=llm, vision=VISIONS["open_clip"], length=2048, text=260, answers=180, caption=20,
        lora=LoraSettings(rank=64, alpha=16, dropout=0.05), global_batch=4, micro_batch=2, questions=32, new_tokens=16,
    )  # fmt: skip


SHAPES = {
    "7B": _paper(LLMS["7B"]),
    "13B": _paper(LLMS["13B"]),
    "tiny": Shape(
        llm=LlmShape(
            hidden=128, intermediate=256, layers=2, heads=2, kv_heads=2, head_dim=64, vocabulary=400
        ),
        vision=VisionShape(width=64, intermediate=128, layers=3, image=32, patch=8, pre_norm=True),
        length=48, text=16, answers=8, caption=8, lora=LoraSettings(rank=4, alpha=8, dropout=0.05), global_batch=4,
        micro_batch=2, questions=32, new_tokens=6,
    ),
}  # fmt: skip


class ClipTower(nn.Module):
    """transformers' CLIP of a shape, with QuickGELU, asked as open_clip's tower is."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        config = CLIPVisionConfig(
            hidden_size=shape.width,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=max(shape.width // 64, 1),
            image_size=shape.image,
            patch_size=shape.patch,
            hidden_act="quick_gelu",
        )
        self.clip = CLIPVisionModel(config)

    def forward_intermediates(self, pixels: Tensor, indices: list[int], **_: Any) -> list[Tensor]:
        """The patches' states after the blocks of these numbers, counted from 0, without the class token."""
        states = self.clip(pixel_values=pixels, output_hidden_states=True).hidden_states
        return [states[index + 1][:, 1:] for index in indices]


def clip_encoder(shape: VisionShape) -> VisionEncoder:
    """The vision encoder of transformers' tower, on torch's default device."""
    return VisionEncoder(ClipTower(shape), shape.layers, pixels_of(shape.image), shape.image)


def build(shape: Shape, method: str, precision: Precision, seed: int = 0) -> MultimodalModel:
    """A model of random weights of which the method's train, drawn on the GPU if there is one: no copy on the host.

    The same seed gives the same LLM. The vision encoder is open_clip's, or transformers' where that is not there.
    """
    setup = Setup(
        llm=shape.llm, vision=shape.vision, method=method, precision=precision,
        lora=shape.lora if method == "lora" else None,
    )  # fmt: skip
    with torch.device(device()):
        torch.manual_seed(seed)
        vision = None if find_spec("open_clip") else clip_encoder(shape.vision)
        torch.manual_seed(seed)  # the LLM is drawn first
        see = pixels_of(shape.vision.image)
        return build_model(setup, attention="sdpa", preprocess=see, vision=vision)


def forget() -> None:
    """Give the GPU's memory back of what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def pixels_of(size: int) -> Callable[[Any], Tensor]:
    """CLIP's preprocessing: shortest side to ``size``, centre crop, normalised; (3, size, size)."""
    mean, deviation = np.array([0.4815, 0.4578, 0.4082]), np.array([0.2686, 0.2613, 0.2758])

    def see(image: Image.Image) -> Tensor:
        scale = size / min(image.size)
        wide, high = (max(int(side * scale), size) for side in image.size)
        left, top = round((wide - size) / 2), round((high - size) / 2)
        small = image.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
        values = (np.asarray(small, dtype=np.float32) / 255 - mean) / deviation
        return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1).contiguous()

    return see


@cache
def jpegs(number: int = IMAGES) -> list[bytes]:
    """JPEGs of COCO's usual size, and with their noise about its bytes."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
        found.append(buffer.getvalue())
    return found


def loader(encoder: VisionEncoder, files: list[bytes]) -> Callable[[int], Tensor]:
    """Reads the pixels of one of the files; from several threads at once if need be."""
    return lambda index: encoder.preprocess(decode(files[index % len(files)]))


def made_up_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer in which every id is a word of its own."""
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{number}": number for number in range(FIRST_WORD, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
