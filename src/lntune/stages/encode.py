"""encode: a training set's conversations as token ids and labels, once for all models that one LLM makes with them.

Samples keep all their tokens: how many of them a model has room for follows from its training.
"""

from collections.abc import Iterator

from lntune.config import Frozen
from lntune.config.protocol import TemplateName
from lntune.data.samples import Sample, read_samples
from lntune.model.chat import layout
from lntune.model.encode import Whole, encode_whole, write_encoded
from lntune.model.prompts import Layout, Rendered, Turn, render, stop_strings
from lntune.store.job import Job, Metrics

PACKAGES = ("transformers", "tokenizers")

BATCH = 1000
"""Samples that the tokenizer is given at a time."""


class Settings(Frozen):
    """How conversations are put into words."""

    template: TemplateName
    system: str | None


class Execution(Frozen):
    """The templates of later prompts: an answer that cannot end is not worth training for."""

    templates: tuple[TemplateName, ...] = ()


def rendered(sample: Sample, template: Layout, system: str | None) -> Rendered:
    """A sample's conversation as the text that is trained on."""
    turns = [Turn("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(sample.turns)]
    return render(template, turns, system=system)


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write encoded.safetensors and set.json, as :func:`lntune.model.encode.write_encoded` does."""
    from lntune.model.llm import load_tokenizer

    named, system = (job.settings.template, *job.execution.templates), job.settings.system
    tokenizer = load_tokenizer(job.folder("llm"), *stop_strings(named))
    template, *_ = [layout(one, tokenizer) for one in named]
    archive, samples = read_samples(job.folder("samples"))

    def encoded() -> Iterator[Whole]:
        for first in range(0, len(samples), BATCH):
            places = range(first, min(first + BATCH, len(samples)))
            yield from encode_whole(tokenizer, [(rendered(samples[at], template, system), at) for at in places])
            progress.advance(len(places))

    with job.track(len(samples), "samples") as progress:
        return {**write_encoded(job.out, archive, [sample.image for sample in samples], encoded())}
