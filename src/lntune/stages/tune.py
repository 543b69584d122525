"""What connector pretraining and finetuning have in common: encoded samples and a model in, a trained model out."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from lntune.config import Frozen
from lntune.config.training import ConnectorKind, Execution, Library, LoraSettings, TrainingSettings
from lntune.store.job import Job, Metrics

if TYPE_CHECKING:
    from torch import Tensor

    from lntune.model.multimodal import MultimodalModel
    from lntune.training.loop import Recorder

PACKAGES = ("torch", "transformers", "tokenizers", "open_clip_torch", "timm", "pillow")
"""The distributions that shape what training makes."""


class TuneSettings(Protocol):
    """What :func:`tune` reads of a stage's settings."""

    @property
    def training(self) -> TrainingSettings: ...
    @property
    def library(self) -> Library: ...
    @property
    def misaligned_share(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def connector(self) -> ConnectorKind: ...


AnySettings = TypeVar("AnySettings", bound=Frozen)


def tune(
    job: Job[AnySettings, Execution],
    settings: TuneSettings,
    *,
    method: str,
    lora: LoraSettings | None,
    connector: Path | None,
    recorder_of: Callable[["MultimodalModel"], "Recorder | None"] | None = None,
    until: float | None = None,
) -> tuple[dict[str, "Tensor"], Metrics]:
    """Train what ``method`` marks on the job's samples; write metrics.jsonl; return what trained and the metrics.

    The job's roles are llm, vision, samples, images; without a ``connector``'s folder one is drawn from the seed.
    ``recorder_of`` takes the model once it is marked what trains; ``until`` is that of
    :func:`lntune.training.loop.train`. Of several ranks, only the first returns weights.
    """
    import torch

    from lntune.model.device import device, place
    from lntune.model.encode import cut_all, read_encoded
    from lntune.model.features import images_of
    from lntune.model.multimodal import assemble, load_connector
    from lntune.model.tuning import apply_method, trainable_report
    from lntune.training import ranks
    from lntune.training.loop import train
    from lntune.training.schedule import total_steps

    archive, members, samples = read_encoded(job.folder("samples"))
    on_gpu = device().type == "cuda"
    precision = settings.training.precision
    model = assemble(
        job.folder("llm"), job.folder("vision"), settings.library, seed=settings.seed, precision=precision,
        device=device(), connector=settings.connector,
    )  # fmt: skip
    if connector is not None:
        load_connector(model, connector)
    apply_method(model, method, lora, seed=settings.seed)
    place(model, precision)
    report = trainable_report(model)
    recorder = recorder_of(model) if recorder_of else None
    encoded, masks = cut_all(
        samples,
        settings.training.max_length,
        threshold=settings.misaligned_share,
        image_tokens=model.vision.tokens,
        source=str(job.folder("samples")),
    )
    images = job.folder("images") / archive
    features = images_of(
        model.vision, images, members, cache=job.execution.cache_features, workers=job.execution.workers
    )
    result = train(
        model, encoded, features, settings.training, job.execution, settings.seed,
        job.scratch, job.out / "metrics.jsonl", job.label, recorder, until,
    )  # fmt: skip
    last = result.losses[-20:]
    whole = total_steps(len(encoded), settings.training)
    return result.weights, {
        "steps": len(result.losses),
        "final_loss": sum(last) / len(last),
        "samples": masks.total,
        **{f"samples_{name}": number for name, number in asdict(masks).items() if name != "total"},
        "trainable": report.trainable,
        "parameters": report.total,
        "trainable_percent": report.percent,
        **({"of_steps": whole} if until else {}),
        **({"resumed_at": result.resumed_at} if result.resumed_at else {}),
        **({"peak_gpu_bytes": max(ranks.of_all(torch.cuda.max_memory_allocated()))} if on_gpu else {}),
    }
