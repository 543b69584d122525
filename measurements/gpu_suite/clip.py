"""CLIP's vision encoder: its speed, and whether open_clip's features are those of transformers' (QuickGELU)."""

import time
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from gpu_suite.made_up import Shape, clip_encoder
from lntune.model.device import device, numerics

BATCH, ROUNDS = 32, 3


def clip_features(found: dict[str, Any], shape: Shape) -> None:
    """Images a second in float32, and by how much the features of the same weights differ."""
    torch.manual_seed(0)
    with torch.device(device()):
        theirs = clip_encoder(shape.vision)
        pixels = torch.randn(BATCH, 3, shape.vision.image, shape.vision.image)
    with numerics(torch.get_num_threads(), "fp32"):
        wanted = theirs.encode(pixels)
        started = time.perf_counter()
        for _ in range(ROUNDS):
            total = float(theirs.encode(pixels).sum())  # waits for the GPU
        found["images_per_second"] = BATCH * ROUNDS / (time.perf_counter() - started)
        found["finite"] = total == total
        found["open_clip"] = bool(find_spec("open_clip"))
        if found["open_clip"]:
            for name in ("QuickGELU", "GELU"):
                features = _open_clip(shape, name, theirs.tower.clip.state_dict()).encode(pixels)
                found[name] = float((features - wanted).norm() / wanted.norm())


def _open_clip(shape: Shape, activation: str, weights: dict[str, Tensor]) -> Any:
    """open_clip's encoder with this activation and transformers' weights."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    from lntune.model.vision import open_clip_encoder

    vision = shape.vision
    layer = {"QuickGELU": QuickGELU, "GELU": torch.nn.GELU}[activation]
    with torch.device(device()):
        tower: Any = VisionTransformer(
            vision.image, vision.patch, vision.width, vision.layers, max(vision.width // 64, 1),
            vision.intermediate / vision.width, output_dim=vision.width, act_layer=layer,
        )  # fmt: skip
    state = renamed(weights, vision.layers)
    missing = tower.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"proj"}, missing
    return open_clip_encoder(tower, lambda image: image)


def renamed(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Weights of transformers' CLIP vision model under the names of open_clip's tower."""
    prefix = next(name for name in weights if name.endswith("embeddings.class_embedding"))
    root = prefix.removesuffix("embeddings.class_embedding")
    own = {name.removeprefix(root): value for name, value in weights.items()}
    found = {
        "class_embedding": own["embeddings.class_embedding"],
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "conv1.weight": own["embeddings.patch_embedding.weight"],
    }
    pairs = [("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")]
    for number in range(layers):
        here, there = f"encoder.layers.{number}", f"transformer.resblocks.{number}"
        pairs += [
            (f"{here}.layer_norm1", f"{there}.ln_1"), (f"{here}.layer_norm2", f"{there}.ln_2"),
            (f"{here}.self_attn.out_proj", f"{there}.attn.out_proj"),
            (f"{here}.mlp.fc1", f"{there}.mlp.c_fc"), (f"{here}.mlp.fc2", f"{there}.mlp.c_proj"),
        ]  # fmt: skip
        for kind in ("weight", "bias"):
            found[f"{there}.attn.in_proj_{kind}"] = torch.cat(
                [own[f"{here}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
    for kind in ("weight", "bias"):
        found |= {f"{new}.{kind}": own[f"{old}.{kind}"] for old, new in pairs}
    return found
