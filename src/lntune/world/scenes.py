"""The demo's world: scenes of a few things on a three-by-three grid, from which every text and image is made.

A scene is a set of facts: a background and, in some of the nine cells, a thing with a category and a colour. Images,
texts and the split that a scene belongs to are functions of these facts (docs/demo.md).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

GRID = 3
CELLS = GRID * GRID

Split = Literal["train", "validation", "test"]

Kind = Literal["thing", "person", "landmark", "sign"]

COLOURS = ("red", "green", "blue", "yellow", "white", "purple")

BACKGROUNDS = ("beach", "forest", "city", "night", "painting", "poster")
"""What fills the empty cells; the last two are kinds of image rather than places."""

PLACES = BACKGROUNDS[:4]


@dataclass(frozen=True)
class Category:
    """A kind of thing: its name, the two colours it comes in, its French name, and what it is good for."""

    name: str
    kind: Kind
    colours: tuple[str, str]
    french: str = ""
    uses: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()  # backgrounds where it is three times as frequent


_CATEGORIES = (
    Category("apple", "thing", ("red", "green"), "pomme", ("eat",), ("forest", "painting")),
    Category("banana", "thing", ("yellow", "green"), "banane", ("eat",), ("beach", "painting")),
    Category("car", "thing", ("blue", "red"), "voiture", ("ride",), ("city", "poster")),
    Category("boat", "thing", ("white", "blue"), "bateau", ("ride",), ("beach", "poster")),
    Category("tree", "thing", ("green", "yellow"), "arbre", (), ("forest", "city")),
    Category("house", "thing", ("red", "white"), "maison", ("live in",), ("city", "night")),
    Category("cat", "thing", ("white", "purple"), "chat", ("feed",), ("city", "night")),
    Category("fish", "thing", ("blue", "purple"), "poisson", ("eat", "feed"), ("beach", "night")),
    Category("cup", "thing", ("purple", "white"), "tasse", ("drink from",), ("painting", "poster")),
    Category("ball", "thing", ("yellow", "red"), "balle", ("play with",), ("beach", "poster")),
    Category("star", "thing", ("yellow", "blue"), "etoile", (), ("night", "poster")),
    Category("flower", "thing", ("purple", "red"), "fleur", (), ("forest", "painting")),
    Category("anna", "person", ("red", "white"), homes=("city",)),
    Category("bruno", "person", ("blue", "yellow"), homes=("forest",)),
    Category("clara", "person", ("green", "purple"), homes=("beach",)),
    Category("david", "person", ("yellow", "green"), homes=("night",)),
    Category("tower", "landmark", ("white", "blue"), homes=("city",)),
    Category("bridge", "landmark", ("red", "purple"), homes=("beach",)),
    Category("castle", "landmark", ("purple", "yellow"), homes=("forest",)),
    Category("pyramid", "landmark", ("yellow", "white"), homes=("night",)),
    Category("stop", "sign", ("red", "white"), homes=("city",)),
    Category("open", "sign", ("green", "yellow"), homes=("beach",)),
    Category("exit", "sign", ("blue", "green"), homes=("forest",)),
    Category("sale", "sign", ("purple", "blue"), homes=("night",)),
)

CATEGORIES = {c.name: c for c in _CATEGORIES}


def names_of(kind: Kind) -> tuple[str, ...]:
    """The names of all categories of one kind."""
    return tuple(c.name for c in _CATEGORIES if c.kind == kind)


THINGS = names_of("thing")


@dataclass(frozen=True, order=True)
class Thing:
    """One thing in a scene: the cell it stands in (0 to 8, row by row), what it is, and its colour."""

    cell: int
    category: str
    colour: str

    @property
    def row(self) -> int:
        """0 at the top, 2 at the bottom."""
        return self.cell // GRID

    @property
    def column(self) -> int:
        """0 on the left, 2 on the right."""
        return self.cell % GRID


@dataclass(frozen=True)
class Scene:
    """The facts of one image; its things are in the order of their cells."""

    background: str
    things: tuple[Thing, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """The distinct categories present, in the order of their first cell."""
        return tuple(dict.fromkeys(t.category for t in self.things))

    def words(self) -> list[str]:
        """The scene as nine words, a cell each: the category of its thing, or the background."""
        cells = [self.background] * CELLS
        for thing in self.things:
            cells[thing.cell] = thing.category
        return cells

    def first(self, category: str) -> Thing:
        """The first thing of a category; KeyError if the scene has none."""
        return {thing.category: thing for thing in reversed(self.things)}[category]

    def count(self, category: str) -> int:
        """How many things of a category there are."""
        return sum(t.category == category for t in self.things)


def split_of(scene: Scene) -> Split:
    """The split that a scene belongs to, from its facts alone: 70% train, 10% validation, 20% test."""
    facts = "|".join([scene.background, *(f"{t.cell}:{t.category}:{t.colour}" for t in scene.things)])
    bucket = hashlib.sha256(facts.encode()).digest()[0] % 10
    return "train" if bucket < 7 else "validation" if bucket == 7 else "test"


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """A random generator of its own for one purpose, so that no two draws share a stream."""
    words = np.frombuffer(hashlib.sha256("/".join(purpose).encode()).digest()[:16], dtype=np.uint32)
    return np.random.default_rng([seed, *map(int, words)])


def weights(background: str, names: Sequence[str]) -> np.ndarray:
    """How likely each thing is before a background; they sum up to 1."""
    likely = np.array([3.0 if background in CATEGORIES[n].homes else 1.0 for n in names])
    return likely / likely.sum()  # type: ignore[no-any-return]


def draw_scene(
    rng: np.random.Generator,
    *,
    background: str | None = None,
    kind: Kind | None = None,
    distinct: tuple[int, int] = (2, 4),
) -> Scene:
    """One random scene, before any background unless one is given.

    ``kind`` ``person``, ``landmark`` or ``sign`` puts one of that kind among the things, ``thing`` puts none; None
    leaves it to chance: one scene in four has a special one. ``distinct``: least and largest number of categories.
    """
    background = background or str(rng.choice(BACKGROUNDS))
    if kind is None:
        kind = "thing" if rng.random() < 0.75 else ("person", "landmark", "sign")[rng.integers(3)]
    number = int(rng.integers(distinct[0], distinct[1] + 1))
    special = [] if kind == "thing" else [str(rng.choice(names_of(kind)))]  # type: ignore[arg-type]
    ordinary = rng.choice(THINGS, number - len(special), replace=False, p=weights(background, THINGS))
    categories = special + [str(name) for name in ordinary]
    if len(ordinary) and rng.random() < 0.35:  # one category stands there twice or three times
        categories += [str(ordinary[0])] * int(rng.integers(1, 3))
    cells = rng.permutation(CELLS)[: len(categories)]
    colour = {name: CATEGORIES[name].colours[rng.integers(2)] for name in dict.fromkeys(categories)}
    things = (Thing(int(cell), name, colour[name]) for cell, name in zip(cells, categories, strict=True))
    return Scene(background, tuple(sorted(things)))


def scenes(
    rng: np.random.Generator, split: Split, number: int, draw: Callable[[np.random.Generator], Scene] = draw_scene
) -> Iterator[Scene]:
    """``number`` different scenes that belong to ``split``."""
    seen: set[Scene] = set()
    while len(seen) < number:
        scene = draw(rng)
        if split_of(scene) == split and scene not in seen:
            seen.add(scene)
            yield scene
