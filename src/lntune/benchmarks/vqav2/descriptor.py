"""VQAv2: open questions, each with ten humans' answers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from lntune.benchmarks.registry import SUBSET, Benchmark, Examples, Scorer, Stage
from lntune.config.protocol import DrawingPrompting

Normalise = Literal["official", "always", "sight-beyond-text"]


class Options(DrawingPrompting):
    """``questions`` takes that many at random (null: all); ``normalise`` says how answers are compared."""

    questions: int | None = Field(ge=1)
    normalise: Normalise


def _right(folder: Path) -> Mapping[str, list[str]]:
    annotations = json.loads((folder / "annotations.json").read_bytes())["annotations"]
    return {str(one["question_id"]): [human["answer"] for human in one["answers"]] for one in annotations}


def _answer_types(folder: Path) -> Mapping[str, str]:
    annotations = json.loads((folder / "annotations.json").read_bytes())["annotations"]
    return {str(one["question_id"]): one["answer_type"] for one in annotations}


BENCHMARKS = (
    Benchmark(
        name="vqav2",
        column="VQAv2",
        questions=Stage("questions-vqav2", "lntune.benchmarks.vqav2.questions", "{questions:,} questions"),
        score=Stage("score-vqav2", "lntune.benchmarks.vqav2.score"),
        parts={"": ("overall",)},
        decimals=2,
        measure="accuracy (%)",
        meaning="overall accuracy",
        size=(214_354, 40_504),
        # Right is what as many humans said as are needed for 0.6, or more.
        examples=Examples(_right, passed=0.5, describe=lambda score: f"accuracy {score:.2g} of 1", kinds=_answer_types),
        protocol="vqav2",
        options=Options,
        question_settings=lambda options, seed, split: {
            "questions": options.questions,
            "seed": seed,
            "shots": options.drawn_shots,
        },
        score_settings=lambda options: {"normalise": options.normalise},
        asked=lambda options: options.questions,
        drawn=("vqav2", "coco"),
        answer_files=lambda options: ("answers.json",),
        scorer=Scorer(
            "vqav2",
            "VQAv2: overall accuracy in percent, and by question type and answer type.",
            {
                "questions": "Official questions, .json or its .zip.",
                "annotations": "Official annotations, .json or its .zip.",
                "answers": "JSON list of {question_id, answer}, or LLaVA's.",
            },
            {
                "normalise": (
                    Normalise,
                    "official",
                    "official: only where the humans differ; always: for every question; sight-beyond-text: as "
                    "official, where an answer that holds yes or no is Yes or No.",
                ),
                **SUBSET,
            },
        ),
    ),
)
