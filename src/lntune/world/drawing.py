"""Draws a scene of the demo's world as a small image, and turns scenes into arrays that encoders are trained on.

Each cell is 16 pixels wide, as wide as a patch of the demo's vision encoders. Every category has a shape of its own.
There are two looks, as COCO and Flickr30k differ in theirs: ``bright``, and ``dim`` with darker ground and outlines.
"""

from collections.abc import Sequence
from math import cos, pi, sin
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lntune.world.scenes import BACKGROUNDS, CATEGORIES, GRID, Scene

if TYPE_CHECKING:
    from torch import Tensor

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

Paint = tuple[int, int, int]
_INK: Paint = (20, 20, 25)
_OUTLINE: Paint = (230, 230, 225)
_SKIN: Paint = (235, 190, 160)


class _Part(NamedTuple):
    """A piece of a shape.

    ``points`` are numbers in turn x and y, in units of the thing's radius around its middle: the corners of a polygon,
    or two opposite corners of the box of a rectangle, an ellipse or an arc (``angles`` and ``width``). ``paint`` is the
    thing's own colour ("fill"), that of lines ("ink"), or a colour.
    """

    kind: Literal["polygon", "rectangle", "ellipse", "arc"]
    points: Sequence[float]
    paint: Literal["fill", "ink"] | Paint = "fill"
    angles: tuple[int, int] = (0, 0)
    width: float = 0.0

    def draw(self, pen: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Paint, ink: Paint) -> None:
        """Draw it around (x, y), r pixels large."""
        placed = [(x, y)[place % 2] + r * one for place, one in enumerate(self.points)]
        paint = {"fill": fill, "ink": ink}[self.paint] if isinstance(self.paint, str) else self.paint
        if self.kind == "arc":
            pen.arc(placed, *self.angles, fill=paint, width=int(self.width * r))
        else:
            getattr(pen, self.kind)(placed, fill=paint)


def _polygon(*points: float, paint: Literal["fill", "ink"] = "fill") -> _Part:
    return _Part("polygon", points, paint)


def _box(*corners: float, paint: Literal["fill", "ink"] = "fill") -> _Part:
    return _Part("rectangle", corners, paint)


def _disc(*corners: float, paint: Literal["fill", "ink"] | Paint = "fill") -> _Part:
    return _Part("ellipse", corners, paint)


_STAR = [(reach * sin(k * pi / 5), -reach * cos(k * pi / 5)) for k in range(10) for reach in [0.4 if k % 2 else 1.0]]
_PETALS = [(0.5 * cos(k * pi / 2), 0.5 * sin(k * pi / 2)) for k in range(4)]


def _person(*hat: _Part) -> list[_Part]:
    return [_disc(-0.55, -0.4, 0.55, 0.6, paint=_SKIN), *hat, _box(-0.25, 0.25, 0.25, 0.35, paint="ink")]


def _sign(*bars: tuple[float, float, float, float]) -> list[_Part]:
    board = [_box(-1.0, -1.0, 1.0, 1.0, paint="ink"), _box(-0.85, -0.85, 0.85, 0.85)]
    return [*board, *(_box(*bar, paint="ink") for bar in bars)]


_SHAPES: dict[str, Sequence[_Part]] = {
    "apple": [_disc(-0.9, -0.6, 0.9, 1.0), _box(-0.12, -1.0, 0.12, -0.4, paint="ink")],
    "banana": [_Part("arc", (-1.0, -1.6, 1.0, 0.7), angles=(10, 170), width=0.55)],
    "car": [
        _box(-1.0, -0.1, 1.0, 0.5), _box(-0.5, -0.6, 0.5, 0.0),
        _disc(-0.8, 0.3, -0.2, 0.9, paint="ink"), _disc(0.2, 0.3, 0.8, 0.9, paint="ink"),
    ],
    "boat": [
        _polygon(-1.0, 0.3, 1.0, 0.3, 0.6, 0.9, -0.6, 0.9, paint="ink"), _polygon(-0.1, -1.0, -0.1, 0.2, 0.9, 0.2),
    ],
    "tree": [_polygon(0.0, -1.0, 0.85, 0.5, -0.85, 0.5), _box(-0.2, 0.5, 0.2, 1.0, paint="ink")],
    "house": [_box(-0.75, -0.1, 0.75, 1.0), _polygon(0.0, -1.0, 1.0, -0.1, -1.0, -0.1, paint="ink")],
    "cat": [
        _disc(-0.8, -0.5, 0.8, 0.9),
        _polygon(-0.85, -1.0, -0.1, -0.4, -0.75, 0.1), _polygon(0.85, -1.0, 0.1, -0.4, 0.75, 0.1),
        _disc(-0.45, -0.1, -0.15, 0.25, paint="ink"), _disc(0.15, -0.1, 0.45, 0.25, paint="ink"),
    ],
    "fish": [
        _disc(-1.0, -0.5, 0.5, 0.5), _polygon(0.3, 0.0, 1.0, -0.6, 1.0, 0.6),
        _disc(-0.75, -0.2, -0.45, 0.1, paint="ink"),
    ],
    "cup": [_box(-0.8, -0.6, 0.4, 0.8), _Part("arc", (0.1, -0.4, 1.0, 0.5), angles=(-90, 90), width=0.25)],
    "ball": [
        _disc(-0.9, -0.9, 0.9, 0.9),
        _box(-0.9, -0.14, 0.9, 0.14, paint="ink"), _box(-0.14, -0.9, 0.14, 0.9, paint="ink"),
    ],
    "star": [_polygon(*(one for point in _STAR for one in point))],
    "flower": [
        *(_disc(cx - 0.45, cy - 0.45, cx + 0.45, cy + 0.45) for cx, cy in _PETALS),
        _disc(-0.25, -0.25, 0.25, 0.25, paint="ink"),
    ],
    "anna": _person(_box(-0.6, -0.8, 1.0, -0.3)),
    "bruno": _person(_polygon(0.0, -1.0, 0.6, -0.2, -0.6, -0.2)),
    "clara": _person(_box(-0.8, -0.6, -0.4, 0.9), _box(0.4, -0.6, 0.8, 0.9)),
    "david": _person(_box(-0.5, 0.2, 0.5, 0.95)),
    "tower": [_polygon(0.0, -1.0, 0.45, 1.0, -0.45, 1.0), _box(-0.6, 0.1, 0.6, 0.25, paint="ink")],
    "bridge": [_box(-1.0, -0.1, 1.0, 0.25), _box(-0.7, -0.9, -0.45, 0.9), _box(0.45, -0.9, 0.7, 0.9)],
    "castle": [
        _box(-0.9, -0.3, 0.9, 0.9), *(_box(left, -0.9, left + 0.4, -0.2) for left in (-0.9, -0.2, 0.5)),
        _box(-0.2, 0.3, 0.2, 0.9, paint="ink"),
    ],
    "pyramid": [_polygon(0.0, -0.8, 1.0, 0.8, -1.0, 0.8), _polygon(0.0, -0.8, 1.0, 0.8, 0.2, 0.8, paint="ink")],
    "stop": _sign((-0.6, -0.2, 0.6, 0.2)),
    "open": _sign((-0.2, -0.6, 0.2, 0.6)),
    "exit": _sign((-0.6, -0.6, 0.6, -0.3), (-0.6, 0.3, 0.6, 0.6)),
    "sale": _sign((-0.6, -0.6, -0.3, 0.6), (0.3, -0.6, 0.6, 0.6)),
}  # fmt: skip


def _ground(scene: Scene, look: Look, rng: np.random.Generator) -> Image.Image:
    dim = 0.55 if look == "dim" else 1.0
    colour = np.array(_GROUND[scene.background], dtype=np.float64) * dim
    noise = rng.normal(0.0, 7.0, (SIZE, SIZE, 1)).repeat(_SCALE, 0).repeat(_SCALE, 1)
    pixels, waves = colour + noise, 22.0 * np.sin(np.arange(SIZE * _SCALE) / 3.0)
    if scene.background == "painting":
        pixels = pixels + waves[:, None, None]
    elif scene.background == "poster":
        pixels = pixels + waves[None, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw(scene: Scene, look: Look, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB image of 48 x 48 pixels; ``rng`` decides noise, and each thing's size and place."""
    image = _ground(scene, look, rng)
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        radius = _SCALE * rng.uniform(5.4, 6.6)
        dx, dy = _SCALE * rng.uniform(-1.2, 1.2, 2)
        x = _SCALE * CELL * (thing.column + 0.5) + dx
        y = _SCALE * CELL * (thing.row + 0.5) + dy
        red, green, blue = _PAINT[thing.colour]
        if look == "dim":
            red, green, blue = int(0.8 * red), int(0.8 * green), int(0.8 * blue)
            for part in _SHAPES[thing.category]:
                part.draw(pen, x, y, radius * 1.15, _OUTLINE, _OUTLINE)
        for part in _SHAPES[thing.category]:
            part.draw(pen, x, y, radius, (red, green, blue), _INK)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


MEAN, STD = (0.48, 0.45, 0.41), (0.27, 0.26, 0.27)
"""Of the three colours, subtracted and divided before an image reaches an encoder."""

Images = NDArray[np.uint8]


def draw_batch(known: Sequence[Scene], rng: np.random.Generator) -> Images:
    """The scenes in both looks by turns, (scenes, 48, 48, 3)."""
    return np.stack([np.asarray(draw(scene, "dim" if k % 2 else "bright", rng)) for k, scene in enumerate(known)])


def normalised(images: Images) -> "Tensor":
    """Float32 pixels (n, 3, 48, 48)."""
    import torch

    pixels = (images.astype(np.float32) / 255.0 - np.float32(MEAN)) / np.float32(STD)  # type: ignore[operator, arg-type]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def cell_words(known: Sequence[Scene]) -> NDArray[np.int64]:
    """What stands in each cell, as a number: (scenes, 9)."""
    names = [*CATEGORIES, *BACKGROUNDS]
    return np.array([[names.index(word) for word in scene.words()] for scene in known])
