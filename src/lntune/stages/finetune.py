"""finetune: one model tuned on instructions: one LLM, vision encoder, method, data set, learning rate and seed."""

from pydantic import Field

from lntune.config import Frozen
from lntune.config.training import Execution, Library, LoraSettings, TrainingSettings, UsualConnector
from lntune.stages.rank import run_on_ranks, runs_on_ranks
from lntune.stages.tune import PACKAGES as _TUNE_PACKAGES
from lntune.stages.tune import tune
from lntune.store.job import LEFT, Job, Metrics
from lntune.training.endings import Diverged, write_endings

PACKAGES = (*_TUNE_PACKAGES, "peft")

TUNED = "tuned.safetensors"
"""What trained, and nothing else; the base weights are those of the inputs."""


class Settings(Frozen):
    """The method, how to train, and what share of samples may have no loss.

    ``until`` is the share of the steps after which a search looks at it; what it takes to go on is left in scratch.
    """

    method: str
    lora: LoraSettings | None
    training: TrainingSettings
    library: Library
    misaligned_share: float
    seed: int
    connector: UsualConnector = "linear"
    until: float | None = Field(default=None, gt=0, lt=1, exclude_if=lambda share: share is None)


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write tuned.safetensors and metrics.jsonl, with the gradients of the norms that train; or else diverged.json."""
    from safetensors.torch import save_file

    from lntune.training import ranks
    from lntune.training.norm_gradients import norm_gradient_recorder

    if runs_on_ranks(job):
        return run_on_ranks(job, __name__)
    settings = job.settings
    try:
        weights, metrics = tune(
            job,
            settings,
            method=settings.method,
            lora=settings.lora,
            connector=job.folder("connector"),
            recorder_of=norm_gradient_recorder,
            until=settings.until,
        )
    except Diverged as found:
        return write_endings(job.out, [found.run]) if ranks.rank() == 0 else {}
    if weights:
        save_file({name: value.contiguous() for name, value in weights.items()}, job.out / TUNED)
        if settings.until:
            (job.scratch / LEFT).touch()
    return metrics
