"""From the scale's names to what memory is predicted from: a training job's sizes, and how it is carried out to fit."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lntune.config.catalog import CATALOG
from lntune.config.llm_shape import LlmShape
from lntune.config.load import shown
from lntune.config.protocol import ProtocolSettings, Shot
from lntune.config.study import LlmSettings, VisionSettings
from lntune.data.samples import Question
from lntune.errors import UserError
from lntune.estimate.hours import PREFIX_TOKENS, SAMPLES, STARTED, training_seconds
from lntune.estimate.jobs import PROMPT_TOKENS, Fit, TrainingJob, choose, prediction_batch
from lntune.estimate.shapes import LLMS, VISIONS, VisionShape, llm_on_disk, vision_on_disk
from lntune.model.prompts import IMAGE
from lntune.paper.memory import TABLE, read_rows
from lntune.plan.node import Node
from lntune.plan.study import Study, once
from lntune.stages.measure import Paper
from lntune.stages.tuned_model import AnySettings, TunedModelSettings
from lntune.store.manifest import Store, slug
from lntune.store.reuse import ResultIndex

_USUAL = Shot(
    question="Is there a dog in the picture, and what is it doing there?",
    answer="A brown dog runs after a ball on a green lawn.",
)
"""Of the length of a question, and of a caption."""

DEFAULT_ZERO_STAGE = 2
"""Of the connector's pretraining, where most is frozen."""


@once
def llm_shape(study: Study, name: str) -> LlmShape:
    """An LLM's shape: by the config.json of its weights where that is there, before it is, as the catalogue says."""
    entry = study.scale.llms[name].weights
    said, folder = study.catalog_entry(entry).shape, _folder(study, entry, "config.json")
    found = said if folder is None else llm_on_disk(folder)
    key = f"{shown(study.root / CATALOG)}: entries.{entry}.shape"
    if found is None:
        raise UserError(
            f"{key}: missing key; the size of {name} is not known before its config.json is there; add {{hidden: ..., "
            "intermediate: ..., layers: ..., heads: ..., vocabulary: ...}"
        )
    if said not in (None, found):
        raise UserError(f"{key}: is not what {folder}/config.json says; correct it, or remove it")
    return found


def vision_shape(study: Study, name: str) -> VisionShape:
    """A vision encoder's shape: by its config on disk, or else the paper's encoder that its library reads."""
    settings = study.scale.visions[name]
    config = "open_clip_config.json" if settings.library == "open_clip" else "config.json"
    folder = _folder(study, settings.weights, config)
    return VISIONS[settings.library] if folder is None else vision_on_disk(folder, settings.library)


def _folder(study: Study, entry: str, config: str) -> Path | None:
    """Where a catalogue entry's config is: a file of this checkout, a copy that is there already, or in the store."""
    chosen, copies = study.catalog_entry(entry), study.copies_folder(entry)
    file = chosen.files.get(config)
    if file is None:
        return None
    if file.path is not None:
        return (study.root / file.path).parent
    if copies and (copies / config).is_file():
        return copies
    store, address = Store(study.store), chosen.place(config).address
    for one in ResultIndex(store).named("fetch", slug([entry])):
        settings: Any = one.settings
        if file.sha256 == settings["files"].get(config) and (file.sha256 or address == settings["addresses"][config]):
            return store.folder(one.stage, one.label, one.id)
    return None


def model_name(models: Mapping[str, LlmSettings] | Mapping[str, VisionSettings], node: Node) -> str | None:
    """Which of the scale's models a node fetches or converts; None if it is none of them."""
    fetch = node.players("llm")[0] if node.stage == "convert" else node
    entry = getattr(fetch.execution, "entry", None)
    return next((name for name, one in models.items() if one.weights == entry), None)


@once
def planned_shape(study: Study, node: Node) -> LlmShape | VisionShape | None:
    """The shape of the scale's model that a node fetches or converts, if it is one."""
    if llm := model_name(study.scale.llms, node):
        return llm_shape(study, llm)
    vision = model_name(study.scale.visions, node)
    return vision_shape(study, vision) if vision else None


@once
def job_of(study: Study, stage: str, llm: str, vision: str, method: str) -> TrainingJob:
    """What decides the memory of a model's training."""
    execution = study.scale.execution
    settings = study.scale.methods.get(method)  # none for the connector
    return TrainingJob(
        label=f"{stage} {llm} {method}" if stage == "finetune" else f"{stage} {llm}",
        stage=stage,
        llm=llm_shape(study, llm),
        vision=vision_shape(study, vision),
        method=method,
        lora=settings.lora if settings else None,
        schedule=study.scale.connector.schedule if stage == "connector" else study.scale.finetune,
        engine=execution.engine,
        ranks=max(execution.of(stage).gpus, 1) if execution.engine == "deepspeed" else 1,
        zero_stage=settings.zero_stage if settings else DEFAULT_ZERO_STAGE,
        recompute=execution.gradient_checkpointing,
        connector=study.scale.connector.kind,
    )


@once
def fitted(study: Study, stage: str, llm: str, vision: str, method: str) -> tuple[TrainingJob, Fit]:
    """A training job of a scale with a GPU, and how it fits: on one GPU if that is enough (``one_gpu_hours``).

    UserError if it fits on no number of them.
    """
    execution, scale = study.scale.execution, study.scale
    assert execution.gpu is not None
    job = job_of(study, stage, llm, vision, method)
    if execution.one_gpu_hours is not None and job.ranks > 1:
        data = [one for name, one in scale.data.items() if (name == scale.connector.data) == (stage == "connector")]
        samples, form = max((one.samples or SAMPLES[one.format], one.format) for one in data)
        with suppress(UserError):
            alone = replace(job, ranks=1)
            fit, shared = (choose(one, execution.gpu, execution.micro_batch) for one in (alone, job))
            seconds = training_seconds(alone, samples, form, execution.gpu, fit.passes)
            others = training_seconds(job, samples, form, execution.gpu, shared.passes)
            if seconds <= min(3600 * execution.one_gpu_hours, job.ranks * (STARTED + others)):
                return alone, fit
    return job, choose(job, execution.gpu, execution.micro_batch)


def papers_row(study: Study, llm: str, method: str) -> Paper | None:
    """What the paper's Table 2 prints for an LLM of one of its sizes and a method; None for others, as in the demo."""
    said = study.catalog_entry(study.scale.llms[llm].weights).shape
    size = next((size for size, shape in LLMS.items() if shape == said), None)
    if size is None:
        return None
    rows = (row for row in read_rows(study.root / TABLE) if (row.method, row.size) == (method, size))
    return next((Paper(memory_gb=row.printed, trainable_percent=row.percent) for row in rows), None)


def with_usual_shots(asked: AnySettings, protocol: ProtocolSettings, key: str) -> AnySettings:
    """The same, with examples of usual length where the protocol draws them for ``key``, one of its benchmarks."""
    drawn = getattr(protocol.options(key), "drawn_shots", None)
    if drawn is None:
        return asked
    prompting = asked.prompting.model_copy(update={"shots": (_USUAL,) * drawn.number})
    return asked.model_copy(update={"prompting": prompting})


def prompt_tokens(asked: TunedModelSettings, protocol: ProtocolSettings, key: str) -> tuple[int, int]:
    """Tokens of text in a usual prompt of one of the protocol's benchmarks, and those before the image."""
    text = with_usual_shots(asked, protocol, key).prompt(Question("", "", _USUAL.question)).text
    # Four characters a token are assumed.
    return max(PROMPT_TOKENS, len(text) // 4), max(PREFIX_TOKENS, text.index(IMAGE) // 4)


def batch_of_questions(study: Study, llm: str, vision: str, new_tokens: int, text: int = PROMPT_TOKENS) -> int:
    """How many questions a model is asked at a time: the scale's number, or in fp32 less if the GPU needs it."""
    execution, asked = study.scale.execution, study.scale.prediction
    limit = asked.batch or execution.prediction_batch
    if execution.gpu is None:
        return limit
    shapes = llm_shape(study, llm), vision_shape(study, vision)
    return prediction_batch(f"predict {llm}", *shapes, new_tokens, execution.gpu, limit, text, asked.precision)
