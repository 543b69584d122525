"""Draws a scene of the demo's world as a small image.

Each cell is 16 pixels wide, as wide as a patch of the demo's vision encoders. Every category has a shape of its own.
There are two looks, as COCO and Flickr30k differ in theirs: ``bright``, and ``dim`` with darker ground and outlines.

Images of the demo's world as arrays, and the linear probe that says what a vision encoder tells of a cell.
"""

from collections.abc import Callable, Sequence
from math import cos, pi, sin
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lntune.world.scenes import BACKGROUNDS, CATEGORIES, GRID, Scene, generator, scenes

CELL = 16
SIZE = GRID * CELL
_SCALE = 3  # drawn three times as large, then reduced, for smooth edges

Look = Literal["bright", "dim"]

_PAINT = {
    "red": (220, 40, 40), "green": (60, 200, 70), "blue": (50, 90, 235),
    "yellow": (245, 220, 50), "white": (250, 250, 250), "purple": (165, 60, 205),
}  # fmt: skip
_GROUND = {
    "beach": (225, 200, 150), "forest": (40, 95, 55), "city": (140, 140, 145),
    "night": (25, 25, 70), "painting": (150, 100, 60), "poster": (250, 170, 190),
}  # fmt: skip

Pen = ImageDraw.ImageDraw
Paint = tuple[int, int, int]
Shape = Callable[[Pen, float, float, float, Paint, Paint], None]


def _polygon(pen: Pen, x: float, y: float, r: float, points: list[tuple[float, float]], fill: Paint) -> None:
    pen.polygon([(x + r * px, y + r * py) for px, py in points], fill=fill)


def _box(pen: Pen, x: float, y: float, r: float, box: tuple[float, float, float, float], fill: Paint) -> None:
    pen.rectangle([x + r * box[0], y + r * box[1], x + r * box[2], y + r * box[3]], fill=fill)


def _disc(pen: Pen, x: float, y: float, r: float, box: tuple[float, float, float, float], fill: Paint) -> None:
    pen.ellipse([x + r * box[0], y + r * box[1], x + r * box[2], y + r * box[3]], fill=fill)


def _apple(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _disc(pen, x, y, r, (-0.9, -0.6, 0.9, 1.0), fill)
    _box(pen, x, y, r, (-0.12, -1.0, 0.12, -0.4), ink)


def _banana(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    pen.arc([x - r, y - 1.6 * r, x + r, y + 0.7 * r], 10, 170, fill=fill, width=int(0.55 * r))


def _car(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _box(pen, x, y, r, (-1.0, -0.1, 1.0, 0.5), fill)
    _box(pen, x, y, r, (-0.5, -0.6, 0.5, 0.0), fill)
    _disc(pen, x, y, r, (-0.8, 0.3, -0.2, 0.9), ink)
    _disc(pen, x, y, r, (0.2, 0.3, 0.8, 0.9), ink)


def _boat(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _polygon(pen, x, y, r, [(-1.0, 0.3), (1.0, 0.3), (0.6, 0.9), (-0.6, 0.9)], ink)
    _polygon(pen, x, y, r, [(-0.1, -1.0), (-0.1, 0.2), (0.9, 0.2)], fill)


def _tree(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _polygon(pen, x, y, r, [(0.0, -1.0), (0.85, 0.5), (-0.85, 0.5)], fill)
    _box(pen, x, y, r, (-0.2, 0.5, 0.2, 1.0), ink)


def _house(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _box(pen, x, y, r, (-0.75, -0.1, 0.75, 1.0), fill)
    _polygon(pen, x, y, r, [(0.0, -1.0), (1.0, -0.1), (-1.0, -0.1)], ink)


def _cat(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _disc(pen, x, y, r, (-0.8, -0.5, 0.8, 0.9), fill)
    _polygon(pen, x, y, r, [(-0.85, -1.0), (-0.1, -0.4), (-0.75, 0.1)], fill)
    _polygon(pen, x, y, r, [(0.85, -1.0), (0.1, -0.4), (0.75, 0.1)], fill)
    _disc(pen, x, y, r, (-0.45, -0.1, -0.15, 0.25), ink)
    _disc(pen, x, y, r, (0.15, -0.1, 0.45, 0.25), ink)


def _fish(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _disc(pen, x, y, r, (-1.0, -0.5, 0.5, 0.5), fill)
    _polygon(pen, x, y, r, [(0.3, 0.0), (1.0, -0.6), (1.0, 0.6)], fill)
    _disc(pen, x, y, r, (-0.75, -0.2, -0.45, 0.1), ink)


def _cup(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _box(pen, x, y, r, (-0.8, -0.6, 0.4, 0.8), fill)
    pen.arc([x + 0.1 * r, y - 0.4 * r, x + r, y + 0.5 * r], -90, 90, fill=fill, width=int(0.25 * r))


def _ball(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _disc(pen, x, y, r, (-0.9, -0.9, 0.9, 0.9), fill)
    _box(pen, x, y, r, (-0.9, -0.14, 0.9, 0.14), ink)
    _box(pen, x, y, r, (-0.14, -0.9, 0.14, 0.9), ink)


def _star(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    points = []
    for k in range(10):
        reach = 1.0 if k % 2 == 0 else 0.4
        points.append((reach * sin(k * pi / 5), -reach * cos(k * pi / 5)))
    _polygon(pen, x, y, r, points, fill)


def _flower(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    for k in range(4):
        cx, cy = 0.5 * cos(k * pi / 2), 0.5 * sin(k * pi / 2)
        _disc(pen, x, y, r, (cx - 0.45, cy - 0.45, cx + 0.45, cy + 0.45), fill)
    _disc(pen, x, y, r, (-0.25, -0.25, 0.25, 0.25), ink)


def _person(hat: str) -> Shape:
    def shape(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
        _disc(pen, x, y, r, (-0.55, -0.4, 0.55, 0.6), (235, 190, 160))
        if hat == "cap":
            _box(pen, x, y, r, (-0.6, -0.8, 1.0, -0.3), fill)
        elif hat == "hood":
            _polygon(pen, x, y, r, [(0.0, -1.0), (0.6, -0.2), (-0.6, -0.2)], fill)
        elif hat == "hair":
            _box(pen, x, y, r, (-0.8, -0.6, -0.4, 0.9), fill)
            _box(pen, x, y, r, (0.4, -0.6, 0.8, 0.9), fill)
        else:
            _box(pen, x, y, r, (-0.5, 0.2, 0.5, 0.95), fill)
        _box(pen, x, y, r, (-0.25, 0.25, 0.25, 0.35), ink)

    return shape


def _tower(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _polygon(pen, x, y, r, [(0.0, -1.0), (0.45, 1.0), (-0.45, 1.0)], fill)
    _box(pen, x, y, r, (-0.6, 0.1, 0.6, 0.25), ink)


def _bridge(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _box(pen, x, y, r, (-1.0, -0.1, 1.0, 0.25), fill)
    _box(pen, x, y, r, (-0.7, -0.9, -0.45, 0.9), fill)
    _box(pen, x, y, r, (0.45, -0.9, 0.7, 0.9), fill)


def _castle(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _box(pen, x, y, r, (-0.9, -0.3, 0.9, 0.9), fill)
    for left in (-0.9, -0.2, 0.5):
        _box(pen, x, y, r, (left, -0.9, left + 0.4, -0.2), fill)
    _box(pen, x, y, r, (-0.2, 0.3, 0.2, 0.9), ink)


def _pyramid(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
    _polygon(pen, x, y, r, [(0.0, -0.8), (1.0, 0.8), (-1.0, 0.8)], fill)
    _polygon(pen, x, y, r, [(0.0, -0.8), (1.0, 0.8), (0.2, 0.8)], ink)


def _sign(bars: tuple[tuple[float, float, float, float], ...]) -> Shape:
    def shape(pen: Pen, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
        _box(pen, x, y, r, (-1.0, -1.0, 1.0, 1.0), ink)
        _box(pen, x, y, r, (-0.85, -0.85, 0.85, 0.85), fill)
        for bar in bars:
            _box(pen, x, y, r, bar, ink)

    return shape


_SHAPES: dict[str, Shape] = {
    "apple": _apple, "banana": _banana, "car": _car, "boat": _boat, "tree": _tree, "house": _house,
    "cat": _cat, "fish": _fish, "cup": _cup, "ball": _ball, "star": _star, "flower": _flower,
    "anna": _person("cap"), "bruno": _person("hood"), "clara": _person("hair"), "david": _person("beard"),
    "tower": _tower, "bridge": _bridge, "castle": _castle, "pyramid": _pyramid,
    "stop": _sign(((-0.6, -0.2, 0.6, 0.2),)),
    "open": _sign(((-0.2, -0.6, 0.2, 0.6),)),
    "exit": _sign(((-0.6, -0.6, 0.6, -0.3), (-0.6, 0.3, 0.6, 0.6))),
    "sale": _sign(((-0.6, -0.6, -0.3, 0.6), (0.3, -0.6, 0.6, 0.6))),
}  # fmt: skip


def _ground(scene: Scene, look: Look, rng: np.random.Generator) -> Image.Image:
    dim = 0.55 if look == "dim" else 1.0
    colour = np.array(_GROUND[scene.background], dtype=np.float64) * dim
    side = SIZE * _SCALE
    noise = rng.normal(0.0, 7.0, (SIZE, SIZE, 1)).repeat(_SCALE, 0).repeat(_SCALE, 1)
    pixels = np.broadcast_to(colour, (side, side, 3)) + noise
    lines = np.arange(side)
    if scene.background == "painting":
        pixels = pixels + 22.0 * np.sin(lines / 3.0)[:, None, None]
    elif scene.background == "poster":
        pixels = pixels + 22.0 * np.sin(lines / 3.0)[None, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw(scene: Scene, look: Look, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB image of 48 x 48 pixels; ``rng`` decides noise, and each thing's size and place."""
    picture = _ground(scene, look, rng)
    pen = ImageDraw.Draw(picture)
    ink: Paint = (20, 20, 25)
    for thing in scene.things:
        radius = _SCALE * rng.uniform(5.4, 6.6)
        dx, dy = _SCALE * rng.uniform(-1.2, 1.2, 2)
        x = _SCALE * CELL * (thing.column + 0.5) + dx
        y = _SCALE * CELL * (thing.row + 0.5) + dy
        shape, paint = _SHAPES[thing.category], _PAINT[thing.colour]
        if look == "dim":
            shape(pen, x, y, radius * 1.15, (230, 230, 225), (230, 230, 225))
            paint = tuple(int(0.8 * c) for c in paint)  # type: ignore[assignment]
        shape(pen, x, y, radius, paint, ink)
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


if TYPE_CHECKING:
    from torch import Tensor

MEAN, STD = (0.48, 0.45, 0.41), (0.27, 0.26, 0.27)
"""Of the three colours, subtracted and divided before an image reaches an encoder."""

Images = NDArray[np.uint8]


def draw_batch(known: Sequence[Scene], rng: np.random.Generator) -> Images:
    """The scenes in both looks by turns, (scenes, 48, 48, 3)."""
    looks: tuple[Look, Look] = ("bright", "dim")
    return np.stack([np.asarray(draw(scene, looks[k % 2], rng), dtype=np.uint8) for k, scene in enumerate(known)])


def normalised(pictures: Images) -> "Tensor":
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
