"""The sizes of the models, known before any weights are there: of each part, and weight by weight.

    LLMS["7B"].parameters                                           # 6738415616
    Skeleton(LLMS["7B"], VISIONS["open_clip"], "lora", lora)        # its weights without numbers, and which train

Read from a config.json where a model has one on disk. Pure Python: the plan uses this. The skeleton has the attributes
that the tuning methods use (:mod:`lntune.model.tuning`), so a method marks what trains here by its own code, and one
that is added is known here too.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from itertools import chain
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lntune.config import Frozen
from lntune.config.llm_family import declared
from lntune.config.llm_shape import LlmShape
from lntune.config.training import ConnectorKind, LoraSettings, connector_inputs
from lntune.errors import UserError
from lntune.model.tuning import METHODS

HALF, FULL, DOUBLE = 2, 4, 8
"""Bytes of a number in bfloat16, float32 and float64."""


class VisionShape(Frozen):
    """A vision transformer without its output projection or classifier.

    ``pre_norm`` (CLIP's norm before the first block) comes instead of a bias of the patches. SigLIP has no
    ``class_token``, and an attention ``pool`` behind its last block; DINOv2 scales what a block adds (``layer_scale``).
    """

    width: int
    intermediate: int
    layers: int
    image: int
    patch: int
    pre_norm: bool
    class_token: bool = True
    pool: bool = False
    layer_scale: bool = False

    @property
    def tokens(self) -> int:
        """Patch tokens an image, which the connector reads; the class token is dropped."""
        return (self.image // self.patch) ** 2

    @property
    def parameters(self) -> int:
        """All weights, those of the last block and norm included, which the features do not pass."""
        width, inner = self.width, self.intermediate
        attention, mlp = 4 * (width * width + width), 2 * width * inner + inner + width
        block = attention + mlp + (6 if self.layer_scale else 4) * width
        patches = 3 * self.patch**2 * width + (2 * width if self.pre_norm else width)
        words = (self.tokens + 2 * self.class_token) * width  # positions, and the class token itself
        pool = attention + mlp + 3 * width if self.pool else 0
        return patches + words + self.layers * block + 2 * width + pool


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


_CONFIG = {
    "hidden": "hidden_size", "intermediate": "intermediate_size", "layers": "num_hidden_layers",
    "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim",
    "vocabulary": "vocab_size", "tied": "tie_word_embeddings",
}  # fmt: skip
"""Our names of an LLM's sizes, and those of a config.json."""


def llm_on_disk(folder: Path) -> LlmShape:
    """The shape of an LLM whose config.json, of one of transformers' classes, is there; UserError if it is none."""
    path = folder / "config.json"
    config = _read(path)
    found = {ours: config[theirs] for ours, theirs in _CONFIG.items() if config.get(theirs) is not None}
    try:
        return LlmShape.model_validate(found | {"model_type": declared(config, path)})
    except ValueError as error:
        raise UserError(
            f"{path}: does not give an LLM's sizes ({' '.join(str(error).split())}); get it again"
        ) from None


def vision_on_disk(folder: Path, library: str) -> VisionShape:
    """The shape of a vision encoder whose config is there; UserError for one of timm's that is not declared."""
    if library == "open_clip":
        path = folder / "open_clip_config.json"
        given = _read(path)["model_cfg"]["vision_cfg"]
        if "timm_model_name" not in given:
            width, layers, image = given["width"], given["layers"], given["image_size"]
            return VisionShape(
                width=width, intermediate=int(width * given.get("mlp_ratio", 4.0)), layers=layers, image=image,
                patch=given["patch_size"], pre_norm=True,
            )  # fmt: skip
        name, changes = given["timm_model_name"], {"img_size": given["image_size"]}
    else:
        path = folder / "config.json"
        config = _read(path)
        name, changes = config["architecture"], config.get("model_args", {})
    if name not in _TIMM:
        raise UserError(f"{path}: the sizes of {name} are not declared; choose one of {', '.join(_TIMM)}")
    sizes = _VIT_BASE | _TIMM[name] | changes
    return VisionShape(
        width=sizes["embed_dim"], intermediate=int(sizes["embed_dim"] * sizes.get("mlp_ratio", 4.0)),
        layers=sizes["depth"], image=sizes["img_size"], patch=sizes["patch_size"], pre_norm=False,
        class_token="siglip" not in sizes, pool="siglip" in sizes, layer_scale=bool(sizes.get("init_values")),
    )  # fmt: skip


_VIT_BASE = {"embed_dim": 768, "depth": 12, "img_size": 224, "patch_size": 16}
_LARGE = {"embed_dim": 1024, "depth": 24}
_SO400M = {"embed_dim": 1152, "depth": 27, "mlp_ratio": 3.7362, "patch_size": 14}
_SIGLIP = {"siglip": True}
_DINOV2 = {"img_size": 518, "patch_size": 14, "init_values": 1e-5}
_TIMM: Mapping[str, dict[str, Any]] = {
    "vit_base_patch16_224": {},
    "vit_large_patch16_224": _LARGE,
    "vit_base_patch16_siglip_224": _SIGLIP,
    "vit_base_patch16_siglip_256": _SIGLIP | {"img_size": 256},
    "vit_base_patch16_siglip_384": _SIGLIP | {"img_size": 384},
    "vit_large_patch16_siglip_256": _SIGLIP | _LARGE | {"img_size": 256},
    "vit_large_patch16_siglip_384": _SIGLIP | _LARGE | {"img_size": 384},
    "vit_so400m_patch14_siglip_224": _SIGLIP | _SO400M,
    "vit_so400m_patch14_siglip_384": _SIGLIP | _SO400M | {"img_size": 384},
    "vit_small_patch14_dinov2": _DINOV2 | {"embed_dim": 384},
    "vit_base_patch14_dinov2": _DINOV2,
    "vit_large_patch14_dinov2": _DINOV2 | _LARGE,
}
"""timm's vision transformers by their names, and how they differ from ViT-Base."""


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
        for weight in self.weights:
            weight.trains = flag

    @cached_property
    def weights(self) -> Sequence[Weight]:
        """All weights below, in order; one that is tied comes once. None is added after they were asked for."""
        parts = chain.from_iterable(part if isinstance(part, list) else [part] for part in vars(self).values())
        below = (part.weights if isinstance(part, Module) else [part] for part in parts)
        return tuple(dict.fromkeys(one for one in chain.from_iterable(below) if isinstance(one, Weight)))

    @property
    def trains(self) -> bool:
        """Whether anything below does."""
        return any(weight.trains for weight in self.weights)

    @cached_property
    def numel(self) -> int:
        """All parameters below."""
        return sum(weight.numel for weight in self.weights)


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
    """The four projections, and in some families a norm of queries and one of keys."""

    def __init__(self, shape: LlmShape) -> None:
        biased = shape.family.biased
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            Linear(*sizes, bias=name in biased) for name, sizes in shape.projections.items()
        )
        for norm in shape.family.head_norms:
            setattr(self, norm, Table(shape.head_dim))


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
        for norm in shape.family.block_norms:
            setattr(self, norm, Table(shape.hidden))

    def linears(self) -> list[Linear]:
        """The seven matrices that LoRA wraps."""
        parts = [*vars(self.self_attn).values(), *vars(self.mlp).values()]
        return [part for part in parts if isinstance(part, Linear)]


class Decoder(Module):
    """Embeddings, blocks and the final norm."""

    def __init__(self, shape: LlmShape) -> None:
        self.embed_tokens = Table(shape.vocabulary, shape.hidden)
        self.layers = [Block(shape) for _ in range(shape.layers)]
        self.norm = Table(shape.hidden)


class Llm(Module):
    """The decoder and its output head."""

    def __init__(self, shape: LlmShape) -> None:
        self.config = SimpleNamespace(model_type=shape.model_type)
        self.model = Decoder(shape)
        self.lm_head = Linear(shape.hidden, shape.vocabulary)
        if shape.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def get_input_embeddings(self) -> Table:
        """The word embeddings."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> Linear:
        """The output head."""
        return self.lm_head


class Connector(Module):
    """One linear layer with bias, or two."""

    def __init__(self, width: int, hidden: int, kind: ConnectorKind) -> None:
        self.layers = [Linear(inputs, hidden, bias=True) for inputs in connector_inputs(kind, width, hidden)]


class Skeleton(Module):
    """Vision encoder (a number of frozen parameters), connector, LLM, marked by a method."""

    def __init__(
        self, llm: LlmShape, vision: VisionShape, method: str, lora: LoraSettings | None,
        connector: ConnectorKind = "linear",
    ) -> None:  # fmt: skip
        if method not in METHODS:
            raise UserError(f"there is no tuning method '{method}': choose one of {', '.join(METHODS)}")
        self.vision = Table(vision.parameters)
        self.connector = Connector(vision.width, llm.hidden, connector)
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

    @cached_property
    def trained(self) -> Sequence[Weight]:
        """What trains, in the order of the model's parameters."""
        return tuple(weight for weight in self.weights if weight.trains)

    @cached_property
    def trainable(self) -> int:
        """How many parameters train."""
        return sum(weight.numel for weight in self.trained)


@cache
def skeleton(
    llm: LlmShape, vision: VisionShape, method: str, lora: LoraSettings | None, connector: ConnectorKind
) -> Skeleton:
    """The same one for all who ask what trains, and change nothing."""
    return Skeleton(llm, vision, method, lora, connector)
