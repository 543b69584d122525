"""The text on which the demo's LLMs are pretrained: scenes written in words, and texts about them.

No image takes part. A scene is written as nine words, one a cell, in the place where an image's tokens will stand
later. The LLM learns to find a word again in what it has read, to list, to count, to answer: the abilities that a
real LLM brings along. Easy documents with many answers come first, since the ability to look a word up appears
suddenly, and only where answers are dense; then sentences, then whole conversations (:data:`CURRICULUM`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lntune.model.prompts import Turn, render
from lntune.world import language
from lntune.world.scenes import CATEGORIES, COLOURS, Scene, Split, scenes

COLOURED = 0.4
"""Share of documents whose scene is written with colours."""


@dataclass(frozen=True)
class Document:
    """A text and the character spans of it that the model is to learn to say."""

    text: str
    answers: tuple[tuple[int, int], ...]


def _described(scene: Scene, *, coloured: bool) -> str:
    """The scene in words: nine cells, row by row, things with their colours or without."""
    words = scene.words()
    if coloured:
        for thing in scene.things:
            words[thing.cell] = f"{thing.colour} {thing.category}"
    return " ".join(words)


def any_scene(rng: np.random.Generator, split: Split) -> Scene:
    """A random scene of a split."""
    return next(scenes(rng, split, 1))


def _listed(scene: Scene, rng: np.random.Generator, pairs: Sequence[tuple[str, str]]) -> Document:
    """A scene, then pairs of question and answer; the answers are learned."""
    text, answers = _described(scene, coloured=bool(rng.random() < COLOURED)) + "\n", []
    for asked, answer in pairs:
        text += f"{asked} "
        answers.append((len(text), len(text) + len(answer)))
        text += f"{answer} "
    return Document(text, tuple(answers))


def checklist(rng: np.random.Generator) -> Document:
    """A scene, then many categories in random order, each followed by yes or no."""
    scene = any_scene(rng, "train")
    names = [str(name) for name in rng.permutation(list(CATEGORIES))[:16]]
    for name in scene.categories:
        if name not in names:
            names[int(rng.integers(len(names)))] = name
    pairs = [(name, "yes" if name in scene.categories else "no") for name in names]
    return _listed(scene, rng, pairs)


def short_questions(rng: np.random.Generator) -> Document:
    """A scene, then short questions with the answer right behind each."""
    scene = any_scene(rng, "train")
    asked = [language.any_existence(scene, rng) for _ in range(9)]
    return _listed(scene, rng, [(one.text, one.answer) for one in asked])


def _yes_no(scene: Scene, rng: np.random.Generator) -> language.Exchange:
    if rng.random() < 0.5:
        asked = language.any_existence(scene, rng)
        return (f"{asked.text} {language.YES_NO}", asked.answer) if rng.random() < 0.6 else (asked.text, asked.sentence)
    return language.mme_exchange(scene, rng)


def _needs_colour(exchange: language.Exchange) -> bool:
    """Whether an exchange speaks of colours, which a scene written without them leaves open."""
    words = f"{exchange[0]} {exchange[1]}".split()
    return "color" in words or any(colour in words for colour in COLOURS)


def _exchanges(scene: Scene, rng: np.random.Generator) -> list[language.Exchange]:
    match rng.choice(5, p=(0.35, 0.25, 0.08, 0.08, 0.24)):
        case 0:
            return [_yes_no(scene, rng) for _ in range(8)]
        case 1:
            return [language.caption_exchange(scene, rng)]
        case 2:
            return language.detail(scene, rng)
        case 3:
            return language.reasoning(scene, rng)
    return language.conversation(scene, rng, 7)


def _document(scene: Scene, exchanges: Sequence[language.Exchange], template: str, *, coloured: bool) -> Document:
    """Exchanges about a scene written in words, rendered with a prompt template without its system sentence."""
    turns = []
    for number, (asked, answer) in enumerate(exchanges):
        front = f"{_described(scene, coloured=coloured)}\n" if number == 0 else ""
        turns += [Turn("user", front + asked), Turn("assistant", answer)]
    rendered = render(template, turns, system="")
    return Document(rendered.text, tuple(rendered.answers))


def talk(rng: np.random.Generator, template: str) -> Document:
    """A conversation about a scene written in words."""
    while True:
        scene = any_scene(rng, "train")
        coloured = bool(rng.random() < COLOURED)
        exchanges = [e for e in _exchanges(scene, rng) if coloured or not _needs_colour(e)]
        if exchanges:
            return _document(scene, exchanges, template, coloured=coloured)


def _captioned(scene: Scene, caption: str) -> Document:
    """A scene without colours and its caption, as in the connector's pretraining; the line's end is learned too."""
    front = _described(scene, coloured=False) + " "
    return Document(f"{front}{caption}\n", ((len(front), len(front) + len(caption) + 1),))


CURRICULUM: tuple[tuple[float, tuple[float, float, float, float]], ...] = (
    (0.2, (0.70, 0.15, 0.10, 0.05)),
    (0.35, (0.20, 0.25, 0.25, 0.30)),
    (1.0, (0.05, 0.05, 0.55, 0.35)),
)
"""Until which part of the training which shares hold: checklists, short questions, conversations, captions."""


def curriculum_document(rng: np.random.Generator, part: float, templates: Sequence[str]) -> Document:
    """A document for a base model at ``part`` (0 to 1) of its pretraining, in one of the templates."""
    shares = next(shares for until, shares in CURRICULUM if part < until or until == 1.0)
    kind = rng.choice(4, p=shares)
    if kind == 0:
        return checklist(rng)
    if kind == 1:
        return short_questions(rng)
    if kind == 2:
        return talk(rng, str(rng.choice(list(templates))))
    scene = any_scene(rng, "train")
    return _captioned(scene, language.any_caption(scene, rng))


Skill = Literal["existence", "caption", "count", "colour", "position", "place", "mme"]
SKILLS: tuple[Skill, ...] = get_args(Skill)


def examination(skill: Skill, rng: np.random.Generator, template: str) -> Document:
    """One question about a test scene written in words; the model's text-only examination."""
    scene = any_scene(rng, "test")
    if skill == "caption":
        return _captioned(scene, language.caption(scene, rng, "coco", form=0))
    if skill == "mme":
        return _document(scene, [language.mme_exchange(scene, rng)], template, coloured=True)
    ask = {
        "existence": language.any_existence,
        "count": language.how_many,
        "colour": language.colour,
        "position": language.position,
        "place": language.place,
    }[skill]
    asked = ask(scene, rng)
    return _document(scene, [asked.short_form()], template, coloured=skill == "colour")
