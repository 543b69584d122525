"""What the facts of a scene answer, worked out from the words of a question and independently of the texts' writer."""

import re
from typing import Any

from lntune.world.scenes import CATEGORIES, COLOURS, Scene

COLUMNS = ("left", "middle", "right")
ROWS = ("top", "center", "bottom")
WHERE = {
    "on the beach": "beach", "in the forest": "forest", "in the city": "city", "at night": "night",
    "in a painting": "painting", "on a poster": "poster",
}  # fmt: skip


def category(noun: str) -> str:
    """The category that a noun with its article names."""
    return re.sub(r"^(a|an) | sign$", "", noun)


def yes(truth: bool) -> str:
    return "yes" if truth else "no"


def offers(scene: Scene, use: str) -> bool:
    return any(use in CATEGORIES[name].uses for name in scene.categories)


def kind_of(scene: Scene, kind: str) -> list[str]:
    return [name for name in scene.categories if CATEGORIES[name].kind == kind]


ORACLE: list[tuple[str, Any]] = [
    (r"In french, is there a (\w+) in this image\?",
     lambda s, french: yes(french in {CATEGORIES[name].french for name in s.categories})),
    (r"Is there something to (.+) in this image\?", lambda s, use: yes(offers(s, use))),
    (r"Is there (.+) in (?:the|this) image\?", lambda s, noun: yes(category(noun) in s.categories)),
    (r"Do you see (.+)\?", lambda s, noun: yes(category(noun) in s.categories)),
    (r"Does this image show the (\w+)\?", lambda s, place: yes(place == s.background)),
    (r"Does this (?:poster|artwork) show (.+)\?", lambda s, noun: yes(category(noun) in s.categories)),
    (r"How many things are there\?", lambda s: str(len(s.things))),
    (r"How often do you see (.+)\?", lambda s, noun: str(sum(t.category == category(noun) for t in s.things))),
    (r"What color is the (\w+)\?", lambda s, name: next(t.colour for t in s.things if t.category == name)),
    (r"Where is the (\w+)\?", lambda s, name: COLUMNS[min(t.cell for t in s.things if t.category == name) % 3]),
    (r"What is in the background\?", lambda s: s.background),
    (r"Are there (\d+) things in this image\?", lambda s, number: yes(len(s.things) == int(number))),
    (r"Is the (\w+) on the (left|middle|right)\?",
     lambda s, name, side: yes(COLUMNS[min(t.cell for t in s.things if t.category == name) % 3] == side)),
    (r"Is the person in this image called (\w+)\?", lambda s, name: yes([name] == kind_of(s, "person"))),
    (r"Is this a picture of the (\w+)\?", lambda s, name: yes([name] == kind_of(s, "landmark"))),
    (r"Is the word on the sign (\w+)\?", lambda s, word: yes([word] == kind_of(s, "sign"))),
    (r"Is the number of things plus 1 equal to (\d+)\?", lambda s, number: yes(len(s.things) + 1 == int(number))),
    (r"Does print\(len\(things\)\) give (\d+)\?", lambda s, number: yes(len(s.things) == int(number))),
    (r"Can you (.+) something in this image\?", lambda s, use: yes(offers(s, use))),
    (rf"Is the (\w+) ({'|'.join(COLOURS)})\?",
     lambda s, name, colour: yes({colour} == {t.colour for t in s.things if t.category == name})),
]  # fmt: skip
"""Forms of questions, and the answer that the facts give."""


def right_answer(scene: Scene, question: str) -> str:
    """What the facts answer; ValueError for a question of no known form."""
    asked = re.sub(r" (Please answer yes or no\.|Answer the question using a single word or phrase\.)$", "", question)
    for form, answer in ORACLE:
        if match := re.fullmatch(form, asked):
            return str(answer(scene, *match.groups()))
    raise ValueError(f"no form for {question!r}")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def named_things(text: str) -> tuple[str, ...]:
    """The categories that a caption names, in its order."""
    return tuple(dict.fromkeys(word for word in words(text) if word in CATEGORIES))


def check_caption(text: str, scene: Scene) -> None:
    """A caption names what is there, nothing else, where it is, and no wrong colour."""
    lower = text.lower()
    assert named_things(text) == scene.categories
    assert [WHERE[phrase] for phrase in WHERE if phrase in lower] == [scene.background]
    for colour, name in re.findall(rf"({'|'.join(COLOURS)}) ({'|'.join(CATEGORIES)})", lower):
        assert {colour} == {thing.colour for thing in scene.things if thing.category == name}
