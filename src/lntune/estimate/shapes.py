"""The sizes of the models, known before any weights are there: of each part, and weight by weight.

    LLMS["7B"].parameters                                           # 6738415616
    Skeleton(LLMS["7B"], VISIONS["open_clip"], "lora", lora)        # its weights without numbers, and which train

Read from a config.json where a model has one on disk. Pure Python: the plan uses this. The skeleton has the attributes
that the tuning methods use (:mod:`lntune.model.tuning`), so a method marks what trains here by its own code, and one
that is added is known here too.
"""

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from lntune.config import Frozen
from lntune.config.llm_shape import LlmShape
from lntune.config.training import LoraSettings
from lntune.errors import UserError
from lntune.model.tuning import METHODS

HALF, FULL, DOUBLE = 2, 4, 8
"""Bytes of a number in bfloat16, float32 and float64."""


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


LLMS: Mapping[str, LlmShape] = {
    "7B": LlmShape(hidden=4096, intermediate=11008, layers=32, heads=32, kv_heads=32, head_dim=128, vocabulary=32000),
    "13B": LlmShape(hidden=5120, intermediate=13824, layers=40, heads=40, kv_heads=40, head_dim=128, vocabulary=32000),
}
"""The two sizes of LLaMA in the paper's Table 2 (Touvron et al., 2023, and the models' config.json)."""

VISIONS: Mapping[str, VisionShape] = {
    "open_clip": VisionShape(width=1024, intermediate=4096, layers=24, image=224, patch=14, pre_norm=True),
    "timm": VisionShape(width=1024, intermediate=4096, layers=24, image=224, patch=16, pre_norm=False),
}
"""The paper's two encoders by the library that reads them: CLIP ViT-L/14 and ViT-L/16, both at 224 pixels."""


def llm_on_disk(folder: Path) -> LlmShape:
    """The shape of an LLM whose config.json, of transformers' LLaMA, is there."""
    config = _read(folder / "config.json")
    heads = config["num_attention_heads"]
    return LlmShape(
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
    )


def vision_on_disk(folder: Path, library: str) -> VisionShape:
    """The shape of a vision encoder whose config is there; what a timm config leaves out is ViT-Base's."""
    clip = library == "open_clip"
    if clip:
        given = _read(folder / "open_clip_config.json")["model_cfg"]["vision_cfg"]
        width, layers, image = given["width"], given["layers"], given["image_size"]
    else:
        config = _read(folder / "config.json")
        large = {"embed_dim": 1024, "depth": 24} if config["architecture"] == "vit_large_patch16_224" else {}
        given = _VIT_BASE | large | config.get("model_args", {})
        width, layers, image = given["embed_dim"], given["depth"], given["img_size"]
    intermediate = int(width * given.get("mlp_ratio", 4.0))
    return VisionShape(
        width=width, intermediate=intermediate, layers=layers, image=image, patch=given["patch_size"], pre_norm=clip
    )


_VIT_BASE = {"embed_dim": 768, "depth": 12, "img_size": 224, "patch_size": 16}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); memory is predicted from the shape that it gives") from None


class Weight:
    """A parameter: its shape, how many numbers it holds, and whether it trains."""

    def __init__(self, shape: tuple[int, ...], *, trains: bool = False) -> None:
        self.shape, self.numel, self.trains = shape, prod(shape), trains


class Module:
    """Named weights and modules, to be asked as a torch module is."""

    def requires_grad_(self, flag: bool = True) -> None:
        """Mark all weights below."""
        for weight in self.weights():
            weight.trains = flag

    def weights(self) -> Iterator[Weight]:
        """All weights below, in order."""
        for value in vars(self).values():
            if isinstance(value, Weight):
                yield value
            for module in value if isinstance(value, list) else [value]:
                if isinstance(module, Module):
                    yield from module.weights()

    @property
    def trains(self) -> bool:
        """Whether anything below does."""
        return any(weight.trains for weight in self.weights())

    @property
    def numel(self) -> int:
        """All parameters below."""
        return sum(weight.numel for weight in self.weights())


class Linear(Module):
    """A matrix (outputs x inputs), perhaps with a bias, and LoRA's two matrices where it is wrapped."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.weight = Weight((outputs, inputs))
        if bias:
            self.bias = Weight((outputs,))
        self.dropout = 0.0
        self.lora_a: Weight | None = None
        self.lora_b: Weight | None = None

    def wrap(self, lora: LoraSettings) -> None:
        """Add LoRA, which trains."""
        self.dropout = lora.dropout
        self.lora_a = Weight((lora.rank, self.inputs), trains=True)
        self.lora_b = Weight((self.outputs, lora.rank), trains=True)


class Table(Module):
    """Word embeddings, or a norm's weight: one weight."""

    def __init__(self, *shape: int) -> None:
        self.weight = Weight(shape)


class Attention(Module):
    """The four projections."""

    def __init__(self, shape: LlmShape) -> None:
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj, self.k_proj = Linear(shape.hidden, queries), Linear(shape.hidden, keys)
        self.v_proj, self.o_proj = Linear(shape.hidden, keys), Linear(queries, shape.hidden)


class Mlp(Module):
    """Gate, up and down projections."""

    def __init__(self, shape: LlmShape) -> None:
        self.gate_proj = Linear(shape.hidden, shape.intermediate)
        self.up_proj = Linear(shape.hidden, shape.intermediate)
        self.down_proj = Linear(shape.intermediate, shape.hidden)


class Block(Module):
    """One decoder layer."""

    def __init__(self, shape: LlmShape) -> None:
        self.self_attn, self.mlp = Attention(shape), Mlp(shape)
        self.input_layernorm, self.post_attention_layernorm = Table(shape.hidden), Table(shape.hidden)

    def linears(self) -> list[Linear]:
        """The seven matrices that LoRA wraps."""
        return [*vars(self.self_attn).values(), *vars(self.mlp).values()]


class Decoder(Module):
    """Embeddings, blocks and the final norm."""

    def __init__(self, shape: LlmShape) -> None:
        self.embed_tokens = Table(shape.vocabulary, shape.hidden)
        self.layers = [Block(shape) for _ in range(shape.layers)]
        self.norm = Table(shape.hidden)


class Llm(Module):
    """The decoder and its output head."""

    def __init__(self, shape: LlmShape) -> None:
        self.model = Decoder(shape)
        self.lm_head = Linear(shape.hidden, shape.vocabulary)
        if shape.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def weights(self) -> Iterator[Weight]:
        """All weights, in order; one that is tied comes once."""
        yield from dict.fromkeys(super().weights())

    def get_input_embeddings(self) -> Table:
        """The word embeddings."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> Linear:
        """The output head."""
        return self.lm_head


class Skeleton(Module):
    """Vision encoder (a number of frozen parameters), connector, LLM, marked by a method."""

    def __init__(self, llm: LlmShape, vision: VisionShape, method: str, lora: LoraSettings | None) -> None:
        if method not in METHODS:
            raise UserError(f"there is no tuning method '{method}': choose one of {', '.join(METHODS)}")
        self.vision = Table(vision.parameters)
        self.connector = Linear(vision.width, llm.hidden, bias=True)
        self.llm = Llm(llm)
        if method != "lora":
            METHODS[method](self, lora)  # type: ignore[arg-type]  # the same attributes, no numbers
            return
        if lora is None:
            raise UserError("methods.lora.lora: LoRA needs its rank, alpha and dropout; add them to the scale")
        for block in self.llm.model.layers:
            for linear in block.linears():
                linear.wrap(lora)
        for part in (self.connector, self.llm.get_input_embeddings(), self.llm.get_output_embeddings()):
            part.requires_grad_()  # as every method but the simplest does

    @property
    def trained(self) -> list[Weight]:
        """What trains, in the order of the model's parameters."""
        return [weight for weight in self.weights() if weight.trains]

    @property
    def trainable(self) -> int:
        """How many parameters train."""
        return sum(weight.numel for weight in self.trained)
