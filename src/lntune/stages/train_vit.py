"""train-vit: the demo's ViT for Table 5, trained to classify what stands in an image, without any language.

Written as a timm folder. An image's classes are the categories in it and its background.
"""

import json
from typing import TYPE_CHECKING

from pydantic import Field

from lntune.stages.train_clip import Execution, TowerRecipe, train_tower, whiteness
from lntune.store.job import Job, Metrics
from lntune.world.drawing import MEAN, STD, cell_words, draw_batch, normalised
from lntune.world.scenes import generator, scenes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

PACKAGES = ("torch", "timm", "numpy", "pillow")


class Recipe(TowerRecipe):
    """The ViT's size, and how it is trained."""

    heads: int = Field(ge=1)


class Settings(Recipe):
    """A recipe and its seed."""

    seed: int


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write config.json, model.safetensors and metrics.jsonl."""
    import torch
    from safetensors.torch import save_file
    from timm.models.vision_transformer import VisionTransformer
    from torch.nn import functional

    settings = job.settings
    torch.set_num_threads(job.execution.threads)
    torch.manual_seed(settings.seed)
    size = {
        "img_size": 48, "patch_size": 16, "embed_dim": settings.width, "depth": settings.layers,
        "num_heads": settings.heads,
    }  # fmt: skip
    rng = generator(settings.seed, "train-vit")
    known = list(scenes(rng, "train", settings.pictures))
    images, words = draw_batch(known, rng), cell_words(known)
    classes = torch.zeros(len(known), int(words.max()) + 1)
    classes.scatter_(1, torch.from_numpy(words), 1.0)
    model = VisionTransformer(**size, num_classes=classes.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.02)

    def losses(chosen: "NDArray[np.int64]") -> "tuple[Tensor, Tensor, dict[str, float]]":
        last, between = model.forward_intermediates(
            normalised(images[chosen]), indices=[settings.layers - 2], output_fmt="NLC"
        )
        wanted = classes[torch.from_numpy(chosen)]
        loss = functional.binary_cross_entropy_with_logits(model.forward_head(last), wanted)
        return loss, whiteness(between[0].flatten(0, 1)), {}

    train_tower(job, settings, optimizer, rng, losses)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, job.out / "model.safetensors")
    document = {
        "architecture": "vit_base_patch16_224",
        "num_classes": classes.shape[1],
        "model_args": size,
        "pretrained_cfg": {
            "input_size": [3, 48, 48], "fixed_input_size": True, "interpolation": "bicubic", "crop_pct": 1.0,
            "crop_mode": "squash", "mean": MEAN, "std": STD, "num_classes": classes.shape[1],
            "first_conv": "patch_embed.proj", "classifier": "head",
        },
    }  # fmt: skip
    (job.out / "config.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return {"parameters": sum(one.numel() for one in model.parameters())}
