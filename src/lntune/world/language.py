"""The texts about a scene of the demo's world: captions, questions with their answers, conversations.

Every sentence follows from the scene's facts. Texts are lower case words and single marks, which is all that the
demo's word-level tokenizer knows; :func:`vocabulary` lists them. Questions use the words of the real benchmarks
(POPE: "is there a X in the image?"; MME: "... please answer yes or no.").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lntune.world.scenes import (
    BACKGROUNDS,
    CATEGORIES,
    COLOURS,
    GRID,
    PLACES,
    THINGS,
    Kind,
    Scene,
    draw_scene,
    generator,
    names_of,
    weights,
)

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLUMNS = ("left", "middle", "right")
ROWS = ("top", "center", "bottom")

YES_NO = "please answer yes or no ."
ONE_WORD = "answer the question using a single word or phrase ."
CAPTION_REQUESTS = (
    "please provide a description of the picture .",
    "provide a one - sentence caption for the provided image .",
    "describe the image concisely .",
)
DETAIL_REQUESTS = ("describe the image in detail .", "what do you see in this image ?")

Style = Literal["coco", "flickr30k"]

_WHERE = {
    "beach": "on the beach", "forest": "in the forest", "city": "in the city", "night": "at night",
    "painting": "in a painting", "poster": "on a poster",
}  # fmt: skip


Exchange = tuple[str, str]
"""What is asked, and the answer."""


@dataclass(frozen=True)
class Question:
    """A question with its short answer, the sentence that says the same, and VQAv2's two types."""

    text: str
    answer: str
    sentence: str
    question_type: str
    answer_type: Literal["yes/no", "number", "other"]

    def short_form(self) -> Exchange:
        """The question with the benchmarks' request for a short answer, and that answer."""
        return f"{self.text} {YES_NO if self.answer_type == 'yes/no' else ONE_WORD}", self.answer


def article(noun: str) -> str:
    """The noun with its article; a person's name stands alone, a sign is named with its word."""
    kind = CATEGORIES[noun].kind
    if kind == "person":
        return noun
    named = f"{noun} sign" if kind == "sign" else noun
    return f"an {named}" if noun[0] in "aeiou" else f"a {named}"


def _named(scene: Scene, category: str, *, coloured: bool) -> str:
    plain = article(category)
    if not coloured or CATEGORIES[category].kind == "person":
        return plain
    return f"a {scene.first(category).colour} " + plain.split(" ", 1)[1]


def enumerate_words(items: Sequence[str]) -> str:
    """``a , b and c``."""
    if len(items) == 1:
        return items[0]
    return " , ".join(items[:-1]) + " and " + items[-1]


_CAPTIONS: dict[Style, tuple[str, ...]] = {
    "coco": ("{things} {where} .", "a picture of {things} {where} .", "there is {things} {where} ."),
    "flickr30k": ("{things} can be seen {where} .", "{where} we see {things} .", "someone shows {things} {where} ."),
}


def caption(scene: Scene, rng: np.random.Generator, style: Style, *, form: int | None = None) -> str:
    """One caption in the style of a captioning set, of one ``form`` of sentence (0 to 2; None: any, most often 0).

    Form 0 names the things in the order of their cells and without colours; others name colours half the time.
    """
    form = int(rng.choice(3, p=(0.6, 0.2, 0.2))) if form is None else form
    coloured = form != 0 and bool(rng.random() < 0.5)
    things = enumerate_words([_named(scene, c, coloured=coloured) for c in scene.categories])
    return _CAPTIONS[style][form].format(things=things, where=_WHERE[scene.background])


def any_style(rng: np.random.Generator) -> Style:
    """Either style, alike often."""
    return "coco" if rng.random() < 0.5 else "flickr30k"


def any_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A caption of form 0 in either style."""
    return caption(scene, rng, any_style(rng), form=0)


def absent(scene: Scene, rng: np.random.Generator) -> str:
    """A thing that is not in the scene, drawn as things are drawn into scenes, so that a name alone tells nothing."""
    names = [n for n in THINGS if n not in scene.categories]
    return str(rng.choice(names, p=weights(scene.background, names)))


def present(scene: Scene, rng: np.random.Generator) -> str:
    """A category that is in the scene."""
    return str(rng.choice(scene.categories))


def existence(scene: Scene, category: str, rng: np.random.Generator) -> Question:
    """Is it there?"""
    noun, forms = article(category), ("is there {} in the image ?", "is there {} in this image ?", "do you see {} ?")
    asked = forms[rng.choice(3, p=(0.5, 0.3, 0.2))].format(noun)
    if category in scene.categories:
        return Question(asked, "yes", f"yes , there is {noun} .", "is there a", "yes/no")
    return Question(asked, "no", f"no , there is not {noun} .", "is there a", "yes/no")


def any_existence(scene: Scene, rng: np.random.Generator) -> Question:
    """An existence question whose answer is yes half of the time."""
    return existence(scene, present(scene, rng) if rng.random() < 0.5 else absent(scene, rng), rng)


def how_many(scene: Scene, rng: np.random.Generator) -> Question:
    """How many things there are, or how many of one category."""
    if rng.random() < 0.5:
        number = len(scene.things)
        asked, sentence = "how many things are there ?", f"there are {number} things ."
    else:
        name = present(scene, rng)
        number = scene.count(name)
        asked, sentence = f"how often do you see {article(name)} ?", f"{number} times ."
    return Question(asked, str(number), sentence, "how many", "number")


def colour(scene: Scene, rng: np.random.Generator) -> Question:
    """The colour of one of the things."""
    name = str(rng.choice([c for c in scene.categories if CATEGORIES[c].kind != "person"] or list(scene.categories)))
    shade = scene.first(name).colour
    return Question(f"what color is the {name} ?", shade, f"the {name} is {shade} .", "what color is the", "other")


def position(scene: Scene, rng: np.random.Generator) -> Question:
    """The column in which the first of a category stands."""
    thing = scene.first(present(scene, rng))
    name, column = thing.category, COLUMNS[thing.column]
    return Question(f"where is the {name} ?", column, f"the {name} is on the {column} .", "where is the", "other")


def place(scene: Scene, rng: np.random.Generator) -> Question:
    """What the background is."""
    sentence = f"this is {_WHERE[scene.background]} ."
    return Question("what is in the background ?", scene.background, sentence, "what is", "other")


def question(scene: Scene, rng: np.random.Generator) -> Question:
    """Any question of VQAv2's kind."""
    asks = (any_existence, how_many, colour, position, place)
    return asks[rng.choice(5, p=(0.4, 0.15, 0.15, 0.15, 0.15))](scene, rng)


# --- LLaVA-Instruct's three types -----------------------------------------------------------------------------


def conversation(scene: Scene, rng: np.random.Generator, turns: int) -> list[Exchange]:
    """Questions about the picture and their answers; half of the turns ask for the short form, as benchmarks do."""
    exchanges = []
    for _ in range(turns):
        kind = rng.random()
        if kind < 0.12:
            exchanges.append(caption_exchange(scene, rng))
        elif kind < 0.4:
            exchanges.append(mme_exchange(scene, rng))
        else:
            asked = question(scene, rng)
            exchanges.append((asked.text, asked.sentence) if rng.random() < 0.5 else asked.short_form())
    return exchanges


def detail(scene: Scene, rng: np.random.Generator) -> list[Exchange]:
    """A request for a detailed description, and one that says what stands where in which colour."""
    things = (
        f"there is {_named(scene, t.category, coloured=True)} on the {ROWS[t.row]} {COLUMNS[t.column]} ."
        for t in scene.things
    )
    text = " ".join([f"this is {_WHERE[scene.background]} .", *things, f"there are {len(scene.things)} things ."])
    return [(str(rng.choice(DETAIL_REQUESTS)), text)]


_USES = ("eat", "ride", "live in", "feed", "drink from", "play with")


def reasoning(scene: Scene, rng: np.random.Generator) -> list[Exchange]:
    """A question that takes a step of reasoning from what is there, answered with the reason."""
    use = str(rng.choice(_USES))
    useful = [c for c in scene.categories if use in CATEGORIES[c].uses]
    asked = f"can you {use} something in this image ?"
    if useful:
        return [(asked, f"yes , because there is {article(useful[0])} and you can {use} it .")]
    things = enumerate_words([article(c) for c in scene.categories])
    return [(asked, f"no , because there is only {things} .")]


def caption_exchange(scene: Scene, rng: np.random.Generator) -> Exchange:
    """A request for a short caption and the caption."""
    described = any_caption(scene, rng)
    return str(rng.choice(CAPTION_REQUESTS)), described


# --- MME's fourteen subtasks: a pair of questions, the first to be answered yes, the second no --------------------

Pair = tuple[str, str]
Ask = Callable[[Scene, np.random.Generator], Pair]


def _pair(asked: str, right: str, options: Sequence[str], rng: np.random.Generator) -> Pair:
    """The question with the right one of the options, and with another."""
    return asked.format(right), asked.format(rng.choice([o for o in options if o != right]))


def _shows(asked: str) -> Ask:
    """Whether something is there: a thing that is, and one that is not."""
    return lambda scene, rng: (
        asked.format(article(present(scene, rng))), asked.format(article(absent(scene, rng)))
    )  # fmt: skip


def _counts(asked: str, more: int = 0) -> Ask:
    """The number of things, and ``more``; or the next number above or below."""

    def ask(scene: Scene, rng: np.random.Generator) -> Pair:
        right = len(scene.things) + more
        return asked.format(right), asked.format(right + (1 if rng.random() < 0.5 else -1))

    return ask


def _of_kind(kind: Kind, asked: str) -> Ask:
    """The name of the one thing of a kind, and another name of that kind."""

    def ask(scene: Scene, rng: np.random.Generator) -> Pair:
        right = next(c for c in scene.categories if CATEGORIES[c].kind == kind)
        return _pair(asked, right, names_of(kind), rng)

    return ask


def _position(scene: Scene, rng: np.random.Generator) -> Pair:
    thing = scene.first(present(scene, rng))
    return _pair(f"is the {thing.category} on the {{}} ?", COLUMNS[thing.column], COLUMNS, rng)


def _color(scene: Scene, rng: np.random.Generator) -> Pair:
    name = str(rng.choice([c for c in scene.categories if CATEGORIES[c].kind != "person"]))
    return _pair(f"is the {name} {{}} ?", scene.first(name).colour, CATEGORIES[name].colours, rng)


def _scene(scene: Scene, rng: np.random.Generator) -> Pair:
    return _pair("does this image show the {} ?", scene.background, PLACES, rng)


def _commonsense(scene: Scene, rng: np.random.Generator) -> Pair:
    offered = [u for u in _USES if any(u in CATEGORIES[c].uses for c in scene.categories)]
    asked = "is there something to {} in this image ?"
    missing = [u for u in _USES if u not in offered]
    return asked.format(rng.choice(offered)), asked.format(rng.choice(missing))


def _translation(scene: Scene, rng: np.random.Generator) -> Pair:
    right = str(rng.choice([c for c in scene.categories if CATEGORIES[c].french]))
    asked = "in french , is there a {} in this image ?"
    return asked.format(CATEGORIES[right].french), asked.format(CATEGORIES[absent(scene, rng)].french)


MME: dict[str, Ask] = {
    "existence": _shows("is there {} in this image ?"),
    "count": _counts("are there {} things in this image ?"),
    "position": _position,
    "color": _color,
    "posters": _shows("does this poster show {} ?"),
    "celebrity": _of_kind("person", "is the person in this image called {} ?"),
    "scene": _scene,
    "landmark": _of_kind("landmark", "is this a picture of the {} ?"),
    "artwork": _shows("does this artwork show {} ?"),
    "OCR": _of_kind("sign", "is the word on the sign {} ?"),
    "commonsense_reasoning": _commonsense,
    "numerical_calculation": _counts("is the number of things plus 1 equal to {} ?", 1),
    "text_translation": _translation,
    "code_reasoning": _counts("does print ( len ( things ) ) give {} ?"),
}
"""Subtask to the function that asks its pair of questions about a scene for which :func:`suits` holds."""


KINDS: dict[str, Kind] = {"celebrity": "person", "landmark": "landmark", "OCR": "sign"}
"""Subtask to the kind of thing that its scenes must have."""
GROUNDS = {"posters": "poster", "artwork": "painting"}
"""Subtask to the background that its scenes must have."""


def suits(scene: Scene, subtask: str) -> bool:
    """Whether a subtask's questions can be asked about a scene."""
    kinds = {CATEGORIES[c].kind for c in scene.categories}
    if subtask in KINDS:
        return KINDS[subtask] in kinds
    if subtask in GROUNDS:
        return scene.background == GROUNDS[subtask]
    if subtask == "scene":
        return scene.background in PLACES
    if subtask == "commonsense_reasoning":
        return any(CATEGORIES[c].uses for c in scene.categories)
    if subtask == "text_translation":
        return any(CATEGORIES[c].french for c in scene.categories)
    if subtask == "color":
        return kinds != {"person"}
    return True


def mme_exchange(scene: Scene, rng: np.random.Generator) -> Exchange:
    """One question of a pair that suits the scene, and its answer, yes half of the time."""
    yes, no = any_mme(scene, rng)
    return (f"{yes} {YES_NO}", "yes") if rng.random() < 0.5 else (f"{no} {YES_NO}", "no")


def any_mme(scene: Scene, rng: np.random.Generator) -> Pair:
    """A pair of questions of any subtask that suits the scene."""
    return MME[str(rng.choice([s for s in MME if suits(scene, s)]))](scene, rng)


def vocabulary() -> list[str]:
    """Every word that the functions of this module can say, found by calling them with 3000 scenes, sorted."""
    rng = generator(0, "vocabulary")
    words: set[str] = set(CATEGORIES) | set(COLOURS) | set(BACKGROUNDS) | set(NUMBERS) | set(COLUMNS) | set(ROWS)
    words |= {c.french for c in CATEGORIES.values() if c.french} | {str(n) for n in range(GRID * GRID + 3)}
    words.update(" ".join((YES_NO, ONE_WORD, *CAPTION_REQUESTS, *DETAIL_REQUESTS)).split())
    for _ in range(3000):
        scene = draw_scene(rng)
        texts = [caption(scene, rng, "coco"), caption(scene, rng, "flickr30k"), *any_mme(scene, rng)]
        for exchange in (*conversation(scene, rng, 2), *detail(scene, rng), *reasoning(scene, rng)):
            texts.extend(exchange)
        words.update(" ".join(texts).split())
    return sorted(words)
