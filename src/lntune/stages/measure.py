"""measure: Table 2 for one LLM, vision encoder and method: parameters that train, and memory.

measure.json holds every number with a label: ``measured`` (on this machine, in a real training step of the real model),
``predicted`` (lntune.estimate.memory), ``paper`` (as printed).
"""

import json
from typing import TYPE_CHECKING, Any

from pydantic import Field

from lntune.config import Frozen
from lntune.config.training import EngineName, Execution, Library, LoraSettings, Precision, UsualConnector
from lntune.stages.rank import run_on_ranks, runs_on_ranks
from lntune.store.job import Job, Metrics

if TYPE_CHECKING:
    from lntune.estimate.memory import Setup
    from lntune.model.multimodal import MultimodalModel

PACKAGES = ("torch", "transformers", "tokenizers", "open_clip_torch", "timm", "peft", "deepspeed")

MEASURED = "measure.json"


class Paper(Frozen):
    """What the paper prints: gigabytes, or null where it says OOM; percent of parameters that train."""

    memory_gb: float | None
    trainable_percent: float


class Settings(Frozen):
    """The method, and the step: its engine, ``micro_batch`` samples of ``length`` positions, a third of text answer."""

    method: str
    lora: LoraSettings | None
    library: Library
    engine: EngineName
    precision: Precision
    gradient_checkpointing: bool
    zero_stage: int = Field(ge=0, le=3)
    micro_batch: int = Field(ge=1)
    length: int = Field(ge=2)
    paper: Paper | None
    seed: int
    connector: UsualConnector = "linear"


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write measure.json."""
    if runs_on_ranks(job):
        return run_on_ranks(job, __name__)
    from lntune.estimate.memory import predict_memory
    from lntune.model.device import numerics
    from lntune.model.multimodal import assemble
    from lntune.model.tuning import apply_method, printed_percent, trainable_report

    settings = job.settings
    model = assemble(
        job.folder("llm"),
        job.folder("vision"),
        settings.library,
        seed=settings.seed,
        precision=settings.precision,
        connector=settings.connector,
    )
    apply_method(model, settings.method, settings.lora, seed=settings.seed)
    report = trainable_report(model)
    setup = _setup(job, model)
    with numerics(job.execution.threads, settings.precision), job.track(1, "steps") as progress:
        measured = _measured(model, setup)
        progress.advance(1)
    account = predict_memory(setup)
    numbers: list[dict[str, Any]] = [
        {"name": "trainable", "value": report.trainable, "label": "measured"},
        {"name": "parameters", "value": report.total, "label": "measured"},
        {"name": "trainable_percent", "value": printed_percent(report.percent), "label": "measured"},
        {"name": "peak_bytes", "value": measured, "label": "measured", "how": _HOW[setup.device]},
        {"name": "peak_bytes", "value": account.peak, "label": "predicted", "parts": account.parts},
    ]
    if settings.paper is not None:
        numbers += [
            {"name": "memory_gb", "value": settings.paper.memory_gb or "OOM", "label": "paper"},
            {"name": "trainable_percent", "value": printed_percent(settings.paper.trainable_percent), "label": "paper"},
        ]
    document = {"setup": setup.model_dump(mode="json"), "numbers": numbers}
    (job.out / MEASURED).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return {"trainable": report.trainable, "parameters": report.total, "predicted_bytes": account.peak}


_HOW = {
    "cuda": "torch.cuda.max_memory_allocated in the second step",
    "cpu": "bytes of live tensors at the second step's peak, on the CPU",
}


def _setup(job: Job[Settings, Execution], model: "MultimodalModel") -> "Setup":
    """The step as the prediction knows it."""
    import torch

    from lntune.estimate.memory import Setup
    from lntune.estimate.shapes import llm_on_disk, vision_on_disk

    settings = job.settings
    return Setup(
        llm=llm_on_disk(job.folder("llm")),
        vision=vision_on_disk(job.folder("vision"), settings.library),
        method=settings.method,
        lora=settings.lora,
        connector=settings.connector,
        precision=settings.precision,
        checkpointing=settings.gradient_checkpointing,
        engine=settings.engine,
        zero_stage=settings.zero_stage,
        micro_batch=settings.micro_batch,
        length=settings.length,
        answer_tokens=max((settings.length - model.vision.tokens) // 3, 1),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def _measured(model: "MultimodalModel", setup: "Setup") -> int | str:
    """The second step's peak in bytes; "OOM" if the GPU's memory did not do."""
    import torch

    from lntune.estimate.training_step import LiveTensors, run_steps
    from lntune.model.device import set_precision

    set_precision(model, setup.precision)
    if setup.device == "cpu":
        with LiveTensors(model.parameters()) as live:
            run_steps(model, setup, live.restart)
        return int(live.peak)
    try:
        model.to("cuda")
        run_steps(model, setup, torch.cuda.reset_peak_memory_stats)
    except torch.cuda.OutOfMemoryError:
        return "OOM"
    return int(torch.cuda.max_memory_allocated())
