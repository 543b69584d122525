"""Pictures of the demo's world as arrays, and the linear probe that says what a vision encoder tells of a cell."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lntune.data.drawing import Look, draw
from lntune.data.world import BACKGROUNDS, CATEGORIES, Scene, generator, scenes

if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (0.48, 0.45, 0.41), (0.27, 0.26, 0.27)
"""Of the three colours, subtracted and divided before a picture reaches an encoder."""

Pictures = NDArray[np.uint8]


def draw_batch(known: Sequence[Scene], rng: np.random.Generator) -> Pictures:
    """The scenes in both looks by turns, (scenes, 48, 48, 3)."""
    looks: tuple[Look, Look] = ("bright", "dim")
    return np.stack([np.asarray(draw(scene, looks[k % 2], rng), dtype=np.uint8) for k, scene in enumerate(known)])


def normalised(pictures: Pictures) -> "Tensor":
    """Float32 pixels (n, 3, 48, 48)."""
    import torch

    pixels = (pictures.astype(np.float32) / 255.0 - np.float32(MEAN)) / np.float32(STD)  # type: ignore[operator, arg-type]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def cell_words(known: Sequence[Scene]) -> NDArray[np.int64]:
    """What stands in each cell, as a number: (scenes, 9)."""
    names = [*CATEGORIES, *BACKGROUNDS]
    return np.array([[names.index(word) for word in scene.words()] for scene in known])


def probe(folder: Path, library: Any, seed: int) -> dict[str, float]:
    """Percent of test cells, and of those with a thing, whose word a linear map reads from the encoder's tokens."""
    import torch

    from lntune.model.vision import load_vision

    encoder = load_vision(folder, library)
    rng = generator(seed, "probe")

    def features(number: int, split: Any) -> "tuple[Tensor, Tensor]":
        known = list(scenes(rng, split, number))
        tokens = encoder.encode(normalised(draw_batch(known, rng))).flatten(0, 1).double()
        return torch.cat([tokens, torch.ones(len(tokens), 1)], 1), torch.from_numpy(cell_words(known)).flatten()

    seen, words = features(3000, "train")
    targets = torch.nn.functional.one_hot(words).double()
    solved = torch.linalg.solve(seen.T @ seen + 0.1 * torch.eye(seen.shape[1]), seen.T @ targets)
    unseen, wanted = features(600, "test")
    right = (unseen @ solved).argmax(1) == wanted
    things = wanted < len(CATEGORIES)
    return {
        "cells": 100.0 * right.double().mean().item(),
        "things": 100.0 * right[things].double().mean().item(),
    }
