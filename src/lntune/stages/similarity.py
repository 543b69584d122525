"""similarity: how alike the layers of one tuned model are while it reads a benchmark's questions (paper section 5.2).

The model is given the prompts that predict would ask, and generates nothing.
"""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from lntune.benchmarks.intervals import interval, write_per_item_scores
from lntune.data.samples import Question, read_questions
from lntune.errors import UserError
from lntune.stages.asked import Execution
from lntune.stages.tuned_model import TunedModelSettings, load
from lntune.store.job import Job, Metrics

if TYPE_CHECKING:
    from lntune.model.similarity import LayerSimilarity

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "open_clip_torch", "timm", "pillow", "numpy")

SIMILARITY = "similarity.json"


class Settings(TunedModelSettings):
    """How many questions the model reads; only rounding depends on the execution."""

    questions: int = Field(ge=1)


def evenly_spread(questions: Sequence[Question], count: int) -> list[Question]:
    """``count`` questions at equal distances in the list, or all if there are no more.

    A benchmark's list may be sorted (MME's is by subtask); its first questions would then speak for one kind alone.
    """
    if count >= len(questions):
        return list(questions)
    return [questions[place * len(questions) // count] for place in range(count)]


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write similarity.json and per_item_scores.json."""
    from lntune.model.device import numerics
    from lntune.model.similarity import layer_similarity

    settings, execution = job.settings, job.execution
    archive, all_questions = read_questions(job.folder("questions"))
    questions = evenly_spread(all_questions, settings.questions)
    model, _, prompts, images = load(job, archive, questions)
    if len(model.llm.model.layers) < 2:
        raise UserError(f"{job.folder('llm') / 'config.json'}: num_hidden_layers is 1; similarity takes two or more")
    pairs = [(prompt.ids, place) for prompt in prompts for place in [prompt.image] if place is not None]
    with numerics(execution.threads, "fp32"), job.track(len(prompts), "questions") as progress:
        found = layer_similarity(model, pairs, images, batch_size=execution.batch_size, progress=progress)
    parts = {tokens: {"similarity": _by_question(job.label, questions, one)} for tokens, one in found.items()}
    counts = {"layers": found["all"].layers, "questions": len(questions)}
    summaries = {
        tokens: {
            "matrix": one.matrix.tolist(),
            "mean": one.mean,
            "mean_with_diagonal": one.mean_with_diagonal,
            "interval": interval(one.by_question),
        }
        for tokens, one in found.items()
    }
    document = {**counts, "tokens": summaries}
    (job.out / SIMILARITY).write_text(json.dumps(document) + "\n", encoding="utf-8")
    write_per_item_scores(job.out, parts, {})
    return {**counts, "similarity": found["all"].mean}


def _by_question(label: str, questions: Sequence[Question], found: "LayerSimilarity") -> dict[str, list[float]]:
    """Each question's similarity by its id; UserError if the model's states are not numbers."""
    by_question = {question.id: [one] for question, one in zip(questions, found.by_question, strict=True)}
    broken = [id for id, (one,) in by_question.items() if not math.isfinite(one)]
    if broken:
        raise UserError(
            f"{label}: the hidden states of {len(broken)} of {len(by_question)} questions are not finite, first "
            f"question {broken[0]}; the tuned weights are broken: leave out their learning rate"
        )
    return by_question
