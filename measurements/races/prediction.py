"""Answers about images, beside transformers' generate() called for one prompt after the other; about five minutes.

That is how LLaVA's own evaluation (model_vqa.py) asks. Both sides have the same model in float32 on one thread, take
the likeliest token, and stop at the end of an answer or after as many tokens as the protocol ``modern`` allows. The
images' features are given, random, and go through a connector that has not learned anything: no encoder is measured.
All answers of all rounds must be identical.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from lntune.benchmarks.registry import protocol_settings
from lntune.config.load import load
from races.image_questions import ImageQuestions, yes_or_no
from races.rounds import Row, Say, in_turn
from races.smollm2 import smollm2_folder
from races.workers import Worker

VERSIONS = ("torch", "transformers", "tokenizers")

HERE = Path(__file__).resolve().parent
WORKFLOW = HERE.parents[1] / "workflow"
DEMO, VISION = WORKFLOW / "weights" / "vicuna-7b", WORKFLOW / "weights" / "clip"

RIVAL = "`generate()`, one prompt at a time"

QUESTIONS = 6
"""About each image, as in POPE."""

LLAVA_TOKENS, DEMO_TOKENS = 256, 9
"""An image's, of LLaVA's encoder and of the demo's."""


def rows(work: Path, say: Say) -> list[Row]:
    """Ask yes/no questions of the demo's LLM and of SmolLM2-135M, and captions of the demo's LLM."""
    asked = load(WORKFLOW / "protocols" / "modern.yaml", protocol_settings())

    def questions(images: int) -> ImageQuestions:
        about = yes_or_no(images, QUESTIONS)
        new = asked.options("pope").max_new_tokens
        return ImageQuestions(images=images, image_tokens=LLAVA_TOKENS, asked=about, max_new_tokens=new)

    describing = asked.options("captions")
    captions = ImageQuestions(
        images=128, image_tokens=DEMO_TOKENS, asked=tuple((image, describing.request) for image in range(128)),
        max_new_tokens=describing.max_new_tokens,
    )  # fmt: skip
    return [
        race("yes/no questions, the demo's LLM", DEMO, questions(50), 3.5, say),
        race("yes/no questions, SmolLM2-135M", smollm2_folder(work), questions(3), 3.5, say),
        race("captions, the demo's LLM", DEMO, captions, 3.0, say),
    ]


def race(name: str, llm: Path, job: ImageQuestions, target: float, say: Say) -> Row:
    """One model's row; ends the program if an answer differs."""
    told: dict[str, Mapping[str, Any]] = {}
    with Worker(HERE / "prediction_worker.py", str(llm), str(VISION), job.model_dump_json()) as worker:

        def side(which: str) -> float:
            told[which] = worker(side=which)
            if len(told) == 2 and told["rival"]["answers"] != told["ours"]["answers"]:
                sys.exit(f"error: {name}: answers differ from generate()'s: {told}")
            return float(told[which]["seconds"])

        rounds = in_turn(name, lambda: side("rival"), lambda: side("ours"), say)
    found = told["ours"]
    count = len(job.asked)
    work = (
        f"{name}: {count} prompts, {job.images} images of {job.image_tokens} tokens, text of"
        f" {mean(found['prompt_tokens']):.0f}, answers of {mean(found['answer_tokens']):.1f}"
    )
    equal = f"{count} of {count} answers are identical in every round"
    return Row(work=work, rival=RIVAL, unit="s", target=target, limit=limit(job, found), equal=equal, **rounds)


def limit(job: ImageQuestions, found: Mapping[str, Any]) -> str:
    """How many times fewer tokens are read where an image's questions share it, answers left out."""
    if len(job.asked) == job.images:
        return ""
    before = sum(found["prompt_tokens"]) + len(job.asked) * job.image_tokens
    return f"{before / found['read_tokens']:.1f}, by the prompts' tokens"
