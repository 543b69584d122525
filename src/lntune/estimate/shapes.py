"""The sizes of the models, known before any weights are there, and how many parameters they have.

    LLMS["7B"].parameters        # 6738415616

Read from a config.json where a model has one on disk. Pure Python: the plan uses this.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lntune.config import Frozen
from lntune.errors import UserError

LLAMA: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "7B": {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
        "13B": {
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
        },
    }
)
"""What differs between the two sizes (Touvron et al., 2023, and the models' config.json)."""

VOCABULARY = 32000


class LlmShape(Frozen):
    """A LLaMA: widths, blocks, heads, words. The output head is a matrix of its own."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LlmShape":
        """The shape that a config.json of transformers' LLaMA gives."""
        heads = config["num_attention_heads"]
        return cls(
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocabulary=config["vocab_size"],
        )

    @property
    def parameters(self) -> int:
        """All weights, embeddings and output head included."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        block = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * block + 2 * self.vocabulary * self.hidden + self.hidden


class VisionShape(Frozen):
    """A vision transformer without its output projection or classifier.

    ``pre_norm`` (CLIP's norm before the first block) comes instead of a bias of the patches.
    """

    width: int
    intermediate: int
    layers: int
    image: int
    patch: int
    pre_norm: bool

    @property
    def tokens(self) -> int:
        """Patch tokens an image, which the connector reads; the class token is dropped."""
        return (self.image // self.patch) ** 2

    @property
    def parameters(self) -> int:
        """All weights, those of the last block and norm included, which the features do not pass."""
        width, inner = self.width, self.intermediate
        block = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
        patches = 3 * self.patch**2 * width + (2 * width if self.pre_norm else width)
        return patches + width + (self.tokens + 1) * width + self.layers * block + 2 * width


LLMS: Mapping[str, LlmShape] = MappingProxyType(
    {size: LlmShape.from_config({**sizes, "vocab_size": VOCABULARY}) for size, sizes in LLAMA.items()}
)

VISIONS: Mapping[str, VisionShape] = MappingProxyType(
    {
        "open_clip": VisionShape(width=1024, intermediate=4096, layers=24, image=224, patch=14, pre_norm=True),
        "timm": VisionShape(width=1024, intermediate=4096, layers=24, image=224, patch=16, pre_norm=False),
    }
)
"""The paper's two encoders by the library that reads them: CLIP ViT-L/14 and ViT-L/16, both at 224 pixels."""


def llm_on_disk(folder: Path) -> LlmShape:
    """The shape of an LLM whose config.json is there."""
    return LlmShape.from_config(_read(folder / "config.json"))


def vision_on_disk(folder: Path, library: str) -> VisionShape:
    """The shape of a vision encoder whose config is there; what a timm config leaves out is ViT-Base's."""
    if library == "open_clip":
        given = _read(folder / "open_clip_config.json")["model_cfg"]["vision_cfg"]
        width = given["width"]
        return VisionShape(
            width=width,
            intermediate=int(width * given.get("mlp_ratio", 4.0)),
            layers=given["layers"],
            image=given["image_size"],
            patch=given["patch_size"],
            pre_norm=True,
        )
    config = _read(folder / "config.json")
    given = _TIMM.get(config["architecture"], {}) | config.get("model_args", {})
    width = given.get("embed_dim", 768)
    return VisionShape(
        width=width,
        intermediate=int(width * given.get("mlp_ratio", 4.0)),
        layers=given.get("depth", 12),
        image=given.get("img_size", 224),
        patch=given.get("patch_size", 16),
        pre_norm=False,
    )


_TIMM: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"vit_large_patch16_224": {"embed_dim": 1024, "depth": 24}, "vit_base_patch16_224": {}}
)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); memory is predicted from the shape that it gives") from None
