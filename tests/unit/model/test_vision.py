"""Vision encoders: which activation an open_clip tower is built with."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from checkout import ROOT
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
