"""The frozen vision encoders: CLIP and SigLIP through open_clip; ViTs, SigLIP and DINOv2 through timm.

Both are read from a folder in their library's own format. The features of an image are the patch tokens after the
second-to-last block, class token dropped, as LLaVA takes them (256 tokens of width 1024 for CLIP ViT-L/14 at 224
pixels; paper section 3).
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lntune.config.training import Library
from lntune.errors import UserError
from lntune.model.weights import check

_FILES: dict[Library, tuple[str, str]] = {
    "open_clip": ("open_clip_config.json", "open_clip_model.safetensors"),
    "timm": ("config.json", "model.safetensors"),
}
_UNUSED = ("head.", "pre_logits.")
"""What a ViT's checkpoint may hold besides: its classifier, which timm leaves out when asked for no classes."""
_OTHER = "these are not the weights that the config beside them describes: get both again, or choose another encoder"


class VisionEncoder(nn.Module):
    """A frozen tower of ``blocks`` blocks and the features that the connector reads.

    An image of ``image_size`` pixels along each side gives ``tokens`` patch tokens of ``width`` numbers.
    """

    def __init__(self, tower: Any, blocks: int, preprocess: Callable[[Any], Tensor], image_size: int) -> None:
        super().__init__()
        self.tower = tower.eval().requires_grad_(False)
        self._second_to_last = blocks - 2
        self._preprocess = preprocess
        self.image_size = image_size
        with torch.no_grad():
            probe = self.encode(torch.zeros(1, 3, image_size, image_size))
        self.tokens, self.width = int(probe.shape[1]), int(probe.shape[2])

    def preprocess(self, image: Any) -> Tensor:
        """A PIL image in RGB as normalised float32 pixels, (3, image_size, image_size)."""
        return self._preprocess(image)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Features (batch, tokens, width), float32, of normalised pixels (batch, 3, image_size, image_size)."""
        pixels = pixels.to(next(self.tower.parameters()))
        found = self.tower.forward_intermediates(
            pixels, indices=[self._second_to_last], stop_early=True, intermediates_only=True, output_fmt="NLC"
        )
        if isinstance(found, dict):  # open_clip's; timm's is the list itself
            found = found["image_intermediates"]
        features: Tensor = found[0].float()
        return features


def open_clip_encoder(visual: Any, preprocess: Callable[[Any], Tensor]) -> VisionEncoder:
    """The encoder of an open_clip model's vision tower; ``preprocess`` turns a PIL image into float32 pixels."""
    visual.proj = None  # the output projection is not used, and Table 2's totals leave it out
    image_size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    return VisionEncoder(visual, len(visual.transformer.resblocks), preprocess, image_size)


def timm_encoder(model: Any, preprocess: Callable[[Any], Tensor], image_size: int) -> VisionEncoder:
    """The encoder of a timm vision transformer for square images of ``image_size`` pixels."""
    return VisionEncoder(model, len(model.blocks), preprocess, image_size)


def _check_activations(tower: nn.Module, quick: bool, config: Path) -> None:
    """UserError unless all activations of an open_clip tower are those its config states: QuickGELU, or else GELU.

    OpenAI's CLIP was trained with QuickGELU, and with GELU gives other features without any error.
    """
    from open_clip.transformer import QuickGELU

    found = {type(part).__name__ for part in tower.modules() if isinstance(part, nn.GELU | QuickGELU)}
    wanted = QuickGELU.__name__ if quick else nn.GELU.__name__
    if found != {wanted}:
        raise UserError(
            f"{config}: model_cfg.quick_gelu is {json.dumps(quick)}, which means {wanted}, but open_clip built "
            f"{' and '.join(sorted(found)) or 'neither GELU nor QuickGELU'}; install the locked open_clip_torch"
        )


def _created(create: Callable[[], Any], weights: Path) -> Any:
    """What a library makes of a folder; UserError in one line if it says that the files are none, or do not fit."""
    from safetensors import SafetensorError

    try:
        return create()
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(f"{weights}: {' '.join(str(error).split())}; {_OTHER}") from None


def load_vision(folder: Path, library: Library) -> VisionEncoder:
    """The encoder in ``folder``; UserError if a file of its library's format is missing or broken."""
    config, weights = (folder / name for name in _FILES[library])
    for path in (config, weights):
        if not path.is_file():
            raise UserError(f"{path}: missing; a vision encoder of {library} needs {config.name} and {weights.name}")
    try:
        stated = json.loads(config.read_bytes())
    except ValueError as error:
        raise UserError(f"{config}: not valid JSON ({error})") from None
    if library == "open_clip":
        import open_clip

        # By a folder open_clip asks the config beside the weights; by a model's name ("ViT-L-14") it would take GELU.
        create = partial(open_clip.create_model_from_pretrained, f"local-dir:{folder}")
        model, preprocess = _created(create, weights)
        check([weights], model.state_dict(), _OTHER, lambda name: name.startswith("visual."))
        if "timm_model_name" in stated["model_cfg"]["vision_cfg"]:  # SigLIP: a tower of timm's in open_clip's file
            size = model.visual.image_size
            return timm_encoder(model.visual.trunk, preprocess, size[0] if isinstance(size, tuple) else size)
        _check_activations(model.visual, stated["model_cfg"].get("quick_gelu", False), config)
        return open_clip_encoder(model.visual, preprocess)
    import timm
    from timm.data import create_transform, resolve_model_data_config

    model = _created(partial(timm.create_model, f"local-dir:{folder}", pretrained=True, num_classes=0), weights)
    check([weights], model.state_dict(), _OTHER, lambda name: not name.startswith(_UNUSED))
    data = resolve_model_data_config(model)
    return timm_encoder(model, create_transform(**data, is_training=False), data["input_size"][1])
