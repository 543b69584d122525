"""predict: the answers of one tuned model to one benchmark's questions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lntune.data.samples import read_questions, write_answers
from lntune.model.chat import layout
from lntune.progress import Progress
from lntune.stages.asked import DecodingSettings, Execution, seed_of
from lntune.stages.tuned_model import TunedModelSettings, load
from lntune.store.job import Job, Metrics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from lntune.model.features import FeatureSource
    from lntune.model.multimodal import MultimodalModel
    from lntune.model.prefix_cache import Prompt

PACKAGES = ("torch", "transformers", "tokenizers", "peft", "open_clip_torch", "timm", "pillow")


class Settings(TunedModelSettings, DecodingSettings):
    """How the model is asked besides, and whether it sees the images; the answers do not depend on the execution."""

    blind: bool


def answer(
    settings: Settings,
    model: "MultimodalModel",
    tokenizer: "PreTrainedTokenizerFast",
    prompts: "Sequence[Prompt]",
    features: "FeatureSource",
    *,
    stop: str,
    seeds: Sequence[int],
    batch_size: int,
    progress: Progress | None = None,
) -> list[str]:
    """The model's answers to prompts about images of ``features``, as the settings say; a seed a prompt.

    ``stop`` is the mark that ends an answer, of the template that has laid out the prompts.
    """
    from lntune.model.generate import NEAR_TIE, generate

    return generate(
        model, tokenizer, prompts, features,
        max_new_tokens=settings.prompting.max_new_tokens,
        stop=stop,
        min_new_tokens=settings.min_new_tokens,
        temperature=settings.temperature,
        top_k=settings.top_k,
        seeds=seeds,
        batch_size=batch_size,
        near_tie=NEAR_TIE[settings.precision],
        progress=progress,
    )  # fmt: skip


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write answers.jsonl."""
    from lntune.model.device import numerics
    from lntune.model.features import BlindFeatures

    settings = job.settings
    archive, questions = read_questions(job.folder("questions"))
    model, tokenizer, prompts, images = load(job, archive, questions, settings.precision)
    features = BlindFeatures(model.vision.tokens, model.vision.width) if settings.blind else images
    seeds = [seed_of(question, settings.seed) for question in questions]
    with numerics(job.execution.threads, "fp32"), job.track(len(prompts), "questions") as progress:
        answers = answer(
            settings, model, tokenizer, prompts, features,
            stop=layout(settings.template, tokenizer).stop,
            seeds=seeds,
            batch_size=settings.batch_size or job.execution.batch_size,
            progress=progress,
        )  # fmt: skip
    write_answers(job.out, zip((question.id for question in questions), answers, strict=True))
    return {"questions": len(questions), "empty_answers": sum(not one for one in answers)}
