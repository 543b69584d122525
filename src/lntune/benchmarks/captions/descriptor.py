"""The captioning sets of MSCOCO and Flickr30k, which are asked and scored alike."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, model_validator

from lntune.benchmarks.registry import SUBSET, Benchmark, Examples, Scorer, Stage
from lntune.config import Frozen
from lntune.config.protocol import DrawingPrompting


class CaptionFormat(Frozen):
    """When a model follows the captioning sets' format; a table shows "-" for one that does not.

    That is if ``least_share`` of its answers, from 0 to 1, or more are one line of ``least_words`` to ``most_words``
    words, not all of them yes or no.
    """

    least_words: int = Field(ge=1)
    most_words: int = Field(ge=1)
    least_share: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _possible(self) -> "CaptionFormat":
        if self.least_words > self.most_words:
            both = f"{self.least_words} words or more (least_words) and {self.most_words} (most_words) or fewer"
            raise ValueError(f"no caption has {both}; lower least_words")
        return self


class Options(DrawingPrompting):
    """``request`` is what is asked of every image."""

    request: str
    format: CaptionFormat


def _references(folder: Path) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in json.loads((folder / "references.json").read_bytes())["annotations"]:
        found.setdefault(str(one["image_id"]), []).append(one["caption"])
    return found


def _captions(name: str, column: str, dataset: str, images: int, scorer: Scorer | None = None) -> Benchmark:
    return Benchmark(
        name=name,
        column=column,
        questions=Stage(
            "questions-captions",
            "lntune.benchmarks.captions.questions",
            "{questions:,} questions, {references:,} references",
        ),
        score=Stage("score-captions", "lntune.benchmarks.captions.score"),
        parts={"": ("CIDEr",)},
        decimals=2,
        measure="CIDEr",
        meaning="CIDEr",
        size=(images, images),
        examples=Examples(
            _references,
            passed=None,
            grade=lambda score: float(score["CIDEr"]),
            describe=lambda score: ", ".join(f"{name} {value:.1f}" for name, value in score.items()),
        ),
        protocol="captions",
        options=Options,
        question_settings=lambda options, seed, split: {
            "dataset": dataset,
            "request": options.request,
            "split": split,
            "shots": options.drawn_shots,
        },
        score_settings=lambda options: options.format.model_dump(include={"least_words", "most_words"}),
        least=lambda options: {"followed": options.format.least_share},
        split=True,
        references=Stage(
            "tokenize-references", "lntune.benchmarks.captions.words", "{references:,} references, {words:,} words"
        ),
        drawn=(dataset,),
        answer_files=lambda options: ("captions.json",),
        scorer=scorer,
    )


BENCHMARKS = (
    _captions(
        "mscoco",
        "MSCOCO",
        "coco",
        5_000,
        Scorer(
            "captions",
            "Captions: CIDEr, BLEU_1 to BLEU_4 and ROUGE_L, x100.",
            {"references": "COCO captions {images, annotations}.", "answers": "JSON list of {image_id, caption}."},
            SUBSET,
        ),
    ),
    _captions("flickr30k", "Flickr30k", "flickr30k", 1_000),
)
