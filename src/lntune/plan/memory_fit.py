"""From the scale's names to what memory is predicted from: a training job's sizes, and how it is carried out to fit."""

from collections.abc import Mapping
from pathlib import Path

from lntune.config.load import shown
from lntune.config.protocol import ProtocolSettings, Shot
from lntune.config.study import LlmSettings, VisionSettings
from lntune.data.samples import Question
from lntune.errors import UserError
from lntune.estimate.hours import PREFIX_TOKENS
from lntune.estimate.jobs import PROMPT_TOKENS, TrainingJob, prediction_batch
from lntune.estimate.shapes import LLMS, VISIONS, LlmShape, VisionShape, llm_on_disk, vision_on_disk
from lntune.model.prompts import IMAGE
from lntune.paper.memory import TABLE, read_rows
from lntune.plan.node import Node
from lntune.plan.study import Study, once
from lntune.stages.measure import Paper
from lntune.stages.tuned_model import AnySettings, TunedModelSettings

_USUAL = Shot(
    question="Is there a dog in the picture, and what is it doing there?",
    answer="A brown dog runs after a ball on a green lawn.",
)
"""Of the length of a question, and of a caption."""

DEFAULT_ZERO_STAGE = 2
"""Of the connector's pretraining, where most is frozen."""


def llm_shape(study: Study, name: str) -> LlmShape:
    """An LLM's shape: by its size in the scale, or else by the config.json that its catalogue entry has on disk."""
    settings = study.scale.llms[name]
    if settings.size is not None:
        return LLMS[settings.size]
    folder = _folder(study, settings.weights, "config.json")
    if folder is None:
        raise UserError(
            f"{shown(study.scale_file)}: llms.{name}.size: missing key; memory is predicted from it before the weights "
            f"are there; add one of {', '.join(LLMS)}"
        )
    return llm_on_disk(folder)


def vision_shape(study: Study, name: str) -> VisionShape:
    """A vision encoder's shape: by its config on disk, or else the paper's encoder that its library reads."""
    settings = study.scale.visions[name]
    config = "open_clip_config.json" if settings.library == "open_clip" else "config.json"
    folder = _folder(study, settings.weights, config)
    return VISIONS[settings.library] if folder is None else vision_on_disk(folder, settings.library)


def _folder(study: Study, entry: str, config: str) -> Path | None:
    """Where a catalogue entry's config lies, if it is a file of this checkout."""
    file = study.catalog_entry(entry).files.get(config)
    return (study.root / file.path).parent if file is not None and file.path is not None else None


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
    )


def papers_row(study: Study, llm: str, method: str) -> Paper | None:
    """What the paper's Table 2 prints for an LLM whose size it names and a method; None for others, as in the demo."""
    size = study.scale.llms[llm].size
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
    """How many questions a model is asked at a time: the scale's number, or less if the GPU needs it."""
    execution = study.scale.execution
    if execution.gpu is None:
        return execution.prediction_batch
    shapes = llm_shape(study, llm), vision_shape(study, vision)
    return prediction_batch(f"predict {llm}", *shapes, new_tokens, execution.gpu, execution.prediction_batch, text)
