"""A stage on several ranks: the job is handed to them, and every rank runs the same stage on its share.

    python -m lntune.stages.rank FOLDER          (by lntune.training.launch; FOLDER holds job.json)

The first rank writes the job's outputs and its progress. What any rank has to say in the end goes through FOLDER.
"""

import json
import os
import sys
from importlib import import_module
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter

from lntune.config import Frozen
from lntune.config.training import Execution
from lntune.store.job import Job, Metrics
from lntune.training.launch import RANK_FOLDER, launch, read_document, run_as_rank

AnySettings = TypeVar("AnySettings", bound=Frozen)
AnyExecution = TypeVar("AnyExecution", bound=Execution)


def runs_on_ranks(job: Job[AnySettings, Execution]) -> bool:
    """Whether this process has to hand the job to ranks; False on a rank, which does it."""
    return job.execution.engine == "deepspeed" and RANK_FOLDER not in os.environ


def run_on_ranks(job: Job[AnySettings, AnyExecution], stage: str, seconds: float = inf) -> Metrics:
    """Run the stage in the module of that name on ``execution.ranks`` ranks; return the first rank's metrics.

    DeepSpeed's version is one of them: like the engine it is no part of a result's identity. After ``seconds`` the
    ranks are ended, and RankCrash says so.
    """
    import torch  # noqa: F401  (loaded, so that the manifest names the GPUs)

    document = {"stage": stage, "job": TypeAdapter(Job[Any, Any]).dump_python(job, mode="json")}
    metrics: Metrics = launch(__name__, document, job.execution.ranks, job.execution.threads, job.label, seconds)
    return metrics | {"deepspeed": version("deepspeed")}


def main(folder: Path) -> NoReturn:
    """Run the job in ``folder`` as one of its ranks, and end."""

    def work() -> Metrics:
        document = read_document(folder)
        stage: Any = import_module(document["stage"])  # runs here in the end, so its code is in the identity
        job = TypeAdapter(Job[stage.Settings, stage.Execution]).validate_json(json.dumps(document["job"]))
        metrics: Metrics = stage.run(job)
        return metrics

    run_as_rank(folder, work)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
