"""Questions about images that both sides of prediction.py are given."""

import random

from lntune.config import Frozen
from lntune.world.scenes import BACKGROUNDS, COLOURS

SEED = 0

THINGS = ("apple", "banana", "car", "boat", "tree", "house", "cat", "fish", "cup", "ball", "star", "flower")

KINDS = (
    "Is there a {thing} in this image?",
    "Is there a {colour} {thing} in this image?",
    "Is there a {thing} in the {background}?",
    "Is the {thing} in this image {colour}?",
    "Are there two {colour} {thing}s in this image?",
    "Is the {thing} to the left of the {other}?",
    "Is there a {thing} above the {colour} {other} in this image?",
)
"""In the manner of MME and POPE; some are shorter than others."""


class ImageQuestions(Frozen):
    """Questions, each with its image's number, and how they are asked."""

    images: int
    image_tokens: int
    asked: tuple[tuple[int, str], ...]
    max_new_tokens: int
    template: str = "v1"
    batch_size: int = 128


def yes_or_no(images: int, questions: int) -> tuple[tuple[int, str], ...]:
    """So many different questions about each image."""
    rng = random.Random(SEED)
    asked = []
    for image in range(images):
        found: dict[str, None] = {}
        while len(found) < questions:
            thing, other = rng.sample(THINGS, 2)
            words = {"colour": rng.choice(COLOURS), "background": rng.choice(BACKGROUNDS)}
            found[rng.choice(KINDS).format(thing=thing, other=other, **words)] = None
        asked += [(image, f"{question} Please answer yes or no.") for question in found]
    return tuple(asked)
