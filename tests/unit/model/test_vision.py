"""Vision encoders: which activation an open_clip tower is built with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from checkout import ROOT
from lntune.config.training import Library
from lntune.errors import UserError
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
