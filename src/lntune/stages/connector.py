"""connector: stage-one pretraining; the connector trains on image captions, everything else is frozen."""

from lntune.config import Frozen
from lntune.config.training import Execution, Library, TrainingSettings, UsualConnector
from lntune.stages.rank import run_on_ranks, runs_on_ranks
from lntune.stages.tune import PACKAGES, tune
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]


class Settings(Frozen):
    """How to train, which library reads the vision encoder, and what share of samples may have no loss."""

    training: TrainingSettings
    library: Library
    misaligned_share: float
    seed: int
    connector: UsualConnector = "linear"


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write connector.safetensors and metrics.jsonl."""
    from lntune.model.multimodal import save_connector

    if runs_on_ranks(job):
        return run_on_ranks(job, __name__)
    weights, metrics = tune(job, job.settings, method="connector-only", lora=None, connector=None)
    if weights:
        save_connector(weights, job.out)
    return metrics
