"""train-clip: the demo's CLIP, trained contrastively on images of the world and captions of them.

Written as an open_clip folder. Besides the contrastive loss, the tokens that a connector will read are kept near
uncorrelated and of unit variance, as a linear map is then learned in few steps.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from lntune.config import Frozen
from lntune.store.job import Job, Metrics
from lntune.world import language
from lntune.world.drawing import MEAN, STD, draw_batch, normalised
from lntune.world.scenes import Scene, generator, scenes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.optim import Optimizer

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow")

_CONTEXT = 40


class TowerRecipe(Frozen):
    """What the demo's towers share; ``decorrelation`` weighs the penalty on the connector's tokens."""

    width: int = Field(ge=8)
    layers: int = Field(ge=2)
    pictures: int = Field(ge=1)
    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    decorrelation: float = Field(ge=0)


class Recipe(TowerRecipe):
    """The tower's size, and how it is trained."""

    head_width: int = Field(ge=4)
    embed_dim: int = Field(ge=8)


class Settings(Recipe):
    """A recipe and its seed."""

    seed: int


class Execution(Frozen):
    """CPU threads."""

    threads: int = Field(ge=1)


def whiteness(tokens: "Tensor") -> "Tensor":
    """How far tokens (n, width) are from zero mean and unit covariance; 0 if they are there."""
    import torch

    centre = tokens.mean(0)
    around = tokens - centre
    covariance = around.T @ around / len(tokens)
    return ((covariance - torch.eye(len(centre))) ** 2).sum() / len(centre) + (centre**2).mean()


def _captions(chosen: list[Scene], rng: np.random.Generator, place: dict[str, int]) -> "Tensor":
    import torch

    rows = []
    for scene in chosen:
        style = language.any_style(rng)
        words = language.caption(scene, rng, style, form=int(rng.integers(3))).split()[: _CONTEXT - 1]
        ids = [place[word] for word in words] + [len(place) + 1]  # the end has the highest id: open_clip pools there
        rows.append(ids + [0] * (_CONTEXT - len(ids)))
    return torch.tensor(rows)


def train_tower(
    job: Job[Any, Execution],
    settings: TowerRecipe,
    optimizer: "Optimizer",
    rng: np.random.Generator,
    losses: "Callable[[NDArray[np.int64]], tuple[Tensor, Tensor, dict[str, float]]]",
    after: Callable[[], object] = lambda: None,
) -> None:
    """Train by batches of images; write metrics.jsonl.

    ``losses`` takes the places of a step's images and returns the loss, the tokens' whiteness, and what else to log.
    """
    lines = []
    with job.track(settings.steps, "steps") as progress:
        for step in range(settings.steps):
            pace = min(1.0, (step + 1) / 30) * 0.5 * (1 + np.cos(np.pi * step / settings.steps))
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * pace
            loss, spread, more = losses(rng.integers(settings.pictures, size=settings.batch))
            optimizer.zero_grad()
            (loss + settings.decorrelation * spread).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            after()
            shown = {"loss": loss.item(), **more}
            rounded = {name: round(value, 6) for name, value in shown.items()}
            lines.append(json.dumps({"step": step + 1, **rounded}) + "\n")
            progress.advance(1, **shown)
    (job.out / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write open_clip_config.json, open_clip_model.safetensors and metrics.jsonl."""
    import torch
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    from safetensors.torch import save_file
    from torch.nn import functional

    settings = job.settings
    torch.set_num_threads(job.execution.threads)
    torch.manual_seed(settings.seed)
    place = {word: number + 1 for number, word in enumerate(language.vocabulary())}
    vision: dict[str, Any] = {
        "image_size": 48, "patch_size": 16, "width": settings.width, "layers": settings.layers,
        "head_width": settings.head_width, "mlp_ratio": 4.0,
    }  # fmt: skip
    text = {"context_length": _CONTEXT, "vocab_size": len(place) + 2, "width": 64, "heads": 4, "layers": 2}
    model = CLIP(settings.embed_dim, CLIPVisionCfg(**vision), CLIPTextCfg(**text))
    rng = generator(settings.seed, "train-clip")
    known = list(scenes(rng, "train", settings.pictures))
    images = draw_batch(known, rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.02, betas=(0.9, 0.98))

    def losses(chosen: "NDArray[np.int64]") -> "tuple[Tensor, Tensor, dict[str, float]]":
        seen = model.visual.forward_intermediates(
            normalised(images[chosen]), indices=[settings.layers - 2], output_fmt="NLC"
        )
        encoded = functional.normalize(seen["image_features"], dim=-1)
        texts = model.encode_text(_captions([known[k] for k in chosen], rng, place), normalize=True)
        logits = model.logit_scale.exp() * encoded @ texts.T
        right = torch.arange(settings.batch)
        contrast = (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2
        spread = whiteness(seen["image_intermediates"][0].flatten(0, 1))
        top1 = (logits.argmax(1) == right).float().mean().item()
        return contrast, spread, {"whiteness": spread.item(), "top1": top1}

    train_tower(job, settings, optimizer, rng, losses, after=lambda: model.logit_scale.data.clamp_(0, 4.6))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, job.out / "open_clip_model.safetensors")
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
    model_config = {"embed_dim": settings.embed_dim, "quick_gelu": False, "vision_cfg": vision, "text_cfg": text}
    document = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    (job.out / "open_clip_config.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return {"parameters": sum(one.numel() for one in model.parameters())}
