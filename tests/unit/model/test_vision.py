"""Vision encoders: which activation an open_clip tower is built with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from checkout import ROOT
from lntune.config.training import Library
from lntune.errors import UserError
from lntune.estimate.shapes import _TIMM, vision_on_disk
from lntune.model.vision import _check_activations, load_vision

CLIP = ROOT / "workflow" / "weights" / "clip"
CONFIG = "open_clip_config.json"


def with_quick_gelu(folder: Path, stated: bool) -> Path:
    """The demo's CLIP under a config that states the activation."""
    shutil.copytree(CLIP, folder)
    config = json.loads((folder / CONFIG).read_text())
    config["model_cfg"]["quick_gelu"] = stated
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def activations(folder: Path) -> list[type[nn.Module]]:
    tower = load_vision(folder, "open_clip").tower
    return [type(part) for part in tower.modules() if isinstance(part, nn.GELU | QuickGELU)]


def test_the_activation_is_the_configs_in_every_block(tmp_path: Path) -> None:
    blocks = json.loads((CLIP / CONFIG).read_text())["model_cfg"]["vision_cfg"]["layers"]
    assert activations(with_quick_gelu(tmp_path / "quick", True)) == [QuickGELU] * blocks
    assert activations(with_quick_gelu(tmp_path / "plain", False)) == [nn.GELU] * blocks
    assert activations(CLIP) == [nn.GELU] * blocks, "the demo's CLIP was trained with GELU, open_clip's own"
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    quick, plain, demo = (
        load_vision(folder, "open_clip").encode(images) for folder in (tmp_path / "quick", tmp_path / "plain", CLIP)
    )
    assert torch.equal(plain, demo)
    assert (quick - plain).abs().max() > 1e-3, "the same weights, other features: nothing else would tell"


def test_a_tower_of_another_activation_than_its_config_states_is_refused(tmp_path: Path) -> None:
    """As open_clip would build it by the name ViT-L-14, which stands for GELU."""
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{CLIP}")
    with pytest.raises(UserError) as refused:
        _check_activations(model.visual, True, tmp_path / CONFIG)
    assert str(refused.value) == (
        f"{tmp_path / CONFIG}: model_cfg.quick_gelu is true, which means QuickGELU, but open_clip built GELU; "
        "install the locked open_clip_torch"
    )
    model.visual.transformer.resblocks[1].mlp.gelu = QuickGELU()
    with pytest.raises(UserError, match="but open_clip built GELU and QuickGELU; "):
        _check_activations(model.visual, True, tmp_path / CONFIG)


def test_by_name_open_clip_builds_openais_vit_with_gelu() -> None:
    """Why the config beside the weights is asked, and must say it."""
    assert "quick_gelu" not in open_clip.get_model_config("ViT-L-14")
    assert open_clip.get_model_config("ViT-L-14-quickgelu")["quick_gelu"]
    assert open_clip.get_pretrained_cfg("ViT-L-14", "openai")["quick_gelu"]


def with_weights(folder: Path, library: Library, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """One of the demo's encoders with other weights; return their file."""
    name, file = {"open_clip": ("clip", "open_clip_model.safetensors"), "timm": ("imagenet-vit", "model.safetensors")}[
        library
    ]
    shutil.copytree(CLIP.with_name(name), folder)
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file)
    return folder / file


FIRST = {"open_clip": "visual.transformer.resblocks.0.ln_1.weight", "timm": "blocks.0.norm1.weight"}
POSITIONS = {"open_clip": "visual.positional_embedding", "timm": "pos_embed"}


@pytest.mark.parametrize("library", ["open_clip", "timm"])
def test_weights_that_a_library_would_draw_stretch_or_pass_over_are_refused(library: Library, tmp_path: Path) -> None:
    """timm draws a missing weight at random; both stretch position embeddings, here those of twice the width."""

    def refused(name: str, change: Callable[[dict[str, Tensor]], object]) -> str:
        weights = with_weights(tmp_path / name, library, change)
        with pytest.raises(UserError) as raised:
            load_vision(weights.parent, library)
        assert "\n" not in str(raised.value) and str(raised.value).startswith(f"{weights}: ")
        return str(raised.value)

    def stretch(held: dict[str, Tensor]) -> None:
        old = held[POSITIONS[library]]
        patches = old.shape[-2] - 1
        held[POSITIONS[library]] = torch.zeros(*old.shape[:-2], 1 + 4 * patches, old.shape[-1])

    first = FIRST[library]
    assert first in refused("lacking", lambda held: held.pop(first))
    assert f"{first}.gamma" in refused("surplus", lambda held: held.update({f"{first}.gamma": held[first].clone()}))
    assert f"has other shapes: {POSITIONS[library]}" in refused("stretched", stretch)
    assert f"no floats in {first} (I8)" in refused("narrow", lambda held: held.update({first: held[first].char()}))


@pytest.mark.parametrize(
    ("library", "name"), [("open_clip", "text.transformer.embeddings.position_ids"), ("timm", "pre_logits.fc.weight")]
)
def test_what_published_encoders_hold_besides_is_harmless(library: Library, name: str, tmp_path: Path) -> None:
    folder = with_weights(tmp_path / "more", library, lambda held: held.update({name: torch.arange(4)})).parent
    plain = CLIP if library == "open_clip" else CLIP.with_name("imagenet-vit")
    images = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_vision(folder, library).encode(images), load_vision(plain, library).encode(images))
    assert any(one.startswith("head.") for one in load_file(CLIP.with_name("imagenet-vit") / "model.safetensors"))


def timm_folder(folder: Path, name: str, **sizes: int) -> Path:
    """An encoder of timm's with random weights, as it lies on the hub."""
    folder.mkdir()
    model = timm.create_model(name, num_classes=0, **sizes)
    save_file(model.state_dict(), folder / "model.safetensors")
    of_pictures = {"input_size": [3, sizes["img_size"], sizes["img_size"]], "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": name, "num_classes": 0, "model_args": sizes, "pretrained_cfg": of_pictures}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("name", "patch"), [("vit_base_patch16_siglip_224", 16), ("vit_base_patch14_dinov2", 14)])
@torch.no_grad()
def test_siglip_and_dinov2_through_timm(name: str, patch: int, tmp_path: Path) -> None:
    folder = timm_folder(tmp_path / "vit", name, img_size=3 * patch, embed_dim=32, depth=3, num_heads=2)
    encoder, shape = load_vision(folder, "timm"), vision_on_disk(folder, "timm")
    assert (encoder.tokens, encoder.width) == (shape.tokens, shape.width) == (9, 32)
    assert shape.parameters == sum(parameter.numel() for parameter in encoder.parameters())
    pixels = torch.randn(2, 3, 3 * patch, 3 * patch)
    states: list[Tensor] = []
    encoder.tower.blocks[1].register_forward_hook(lambda part, given, made: states.append(made))
    encoder.tower(pixels)
    assert torch.equal(encoder.encode(pixels), states[0][:, -9:]), "after the second-to-last block, patches alone"


def test_siglip_through_open_clip_is_a_tower_of_timms(tmp_path: Path) -> None:
    tower = {"image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "avg"}
    text = {"context_length": 4, "vocab_size": 9, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 64, "vision_cfg": tower | {"timm_proj": "none"}, "text_cfg": text, "custom_text": True}
    given = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": given}))
    model = open_clip.CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = load_vision(tmp_path, "open_clip")
    assert (encoder.tokens, encoder.width, encoder.image_size) == (100, 64, 160)
    with pytest.raises(UserError, match=r"open_clip_config\.json: the sizes of test_vit are not declared; choose"):
        vision_on_disk(tmp_path, "open_clip")


@pytest.mark.parametrize("name", _TIMM)
def test_declared_sizes_are_timms(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    assert vision_on_disk(tmp_path, "timm").parameters == sum(one.numel() for one in model.parameters())
