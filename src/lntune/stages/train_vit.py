"""train-vit: the demo's ViT for Table 5, trained to classify what stands in an image, without any language.

Written as a timm folder. An image's classes are the categories in it and its background; ``probe.json`` says how
well a linear map reads each cell from the tokens that a connector will see.
"""

import json

import numpy as np
from pydantic import Field

from lntune.config import Frozen
from lntune.stages.train_clip import whiteness
from lntune.store.job import Job, Metrics
from lntune.world.drawing import MEAN, STD, cell_words, draw_batch, normalised, probe
from lntune.world.scenes import generator, scenes

PACKAGES = ("torch", "timm", "numpy", "pillow")


class Recipe(Frozen):
    """The ViT's size, and how it is trained; ``decorrelation`` weighs the penalty on the connector's tokens."""

    width: int = Field(ge=8)
    layers: int = Field(ge=2)
    heads: int = Field(ge=1)
    pictures: int = Field(ge=1)
    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    decorrelation: float = Field(ge=0)


class Settings(Recipe):
    """A recipe and its seed."""

    seed: int


class Execution(Frozen):
    """CPU threads."""

    threads: int = Field(ge=1)


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write config.json, model.safetensors, metrics.jsonl and probe.json."""
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
    pictures, words = draw_batch(known, rng), cell_words(known)
    classes = torch.zeros(len(known), int(words.max()) + 1)
    classes.scatter_(1, torch.from_numpy(words), 1.0)
    model = VisionTransformer(**size, num_classes=classes.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.02)
    lines = []
    with job.track(settings.steps, "steps") as progress:
        for step in range(settings.steps):
            pace = min(1.0, (step + 1) / 30) * 0.5 * (1 + np.cos(np.pi * step / settings.steps))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * pace
            chosen = rng.integers(len(known), size=settings.batch)
            last, between = model.forward_intermediates(
                normalised(pictures[chosen]), indices=[settings.layers - 2], output_fmt="NLC"
            )
            wanted = classes[torch.from_numpy(chosen)]
            loss = functional.binary_cross_entropy_with_logits(model.forward_head(last), wanted)
            spread = whiteness(between[0].flatten(0, 1))
            optimizer.zero_grad()
            (loss + settings.decorrelation * spread).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            lines.append(json.dumps({"step": step + 1, "loss": round(loss.item(), 6)}) + "\n")
            progress.advance(1, loss=loss.item())
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
    (job.out / "config.json").write_text(json.dumps(document, indent=1) + "\n")
    (job.out / "metrics.jsonl").write_text("".join(lines))
    found = probe(job.out, "timm", settings.seed)
    (job.out / "probe.json").write_text(json.dumps(found, indent=1) + "\n")
    return found  # type: ignore[return-value]
