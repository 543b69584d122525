"""A stage on several ranks: the job is handed to torchrun, and every rank runs the same stage on its share.

    torchrun ... -m lntune.stages.rank FOLDER          (by lntune.training.launch; FOLDER holds job.json)

The first rank writes the job's outputs, its progress and its metrics. What any rank has to say in the end goes through
FOLDER, and the launching process prints it once.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lntune.config import Frozen
from lntune.config.training import Execution
from lntune.store.job import Job, Metrics
from lntune.training.launch import RANK_FOLDER, launch, read_document, run_as_rank

AnySettings = TypeVar("AnySettings", bound=Frozen)


def runs_on_ranks(job: Job[AnySettings, Execution]) -> bool:
    """Whether this process has to hand the job to ranks; False on a rank, which does it."""
    return job.execution.engine == "deepspeed" and RANK_FOLDER not in os.environ


def run_on_ranks(job: Job[AnySettings, Execution], stage: str) -> Metrics:
    """Run the stage in the module of that name on ``execution.ranks`` ranks; return the first rank's metrics.

    DeepSpeed's version is one of them: like the engine it is no part of a result's identity.
    """
    import torch  # noqa: F401  (loaded, so that the manifest names the GPUs)

    document = {
        "stage": stage,
        "label": job.label,
        "settings": job.settings.model_dump(mode="json"),
        "execution": job.execution.model_dump(mode="json"),
        "inputs": {
            role: str(given) if isinstance(given, Path) else list(map(str, given)) for role, given in job.inputs.items()
        },
        "out": str(job.out),
        "scratch": str(job.scratch),
    }
    metrics: Metrics = launch(__name__, document, job.execution.ranks, job.execution.threads, job.label)
    return metrics | {"deepspeed": version("deepspeed")}


def read_job(document: dict[str, Any]) -> tuple[Callable[[Any], Metrics], Job[Any, Execution]]:
    """The stage's function and the job that :func:`run_on_ranks` wrote down."""
    module = import_module(document["stage"])  # the module that runs here in the end, so its code is in the identity
    inputs = {
        role: Path(given) if isinstance(given, str) else tuple(map(Path, given))
        for role, given in document["inputs"].items()
    }
    job = Job(
        label=document["label"],
        settings=module.Settings.model_validate_json(json.dumps(document["settings"])),
        execution=module.Execution.model_validate_json(json.dumps(document["execution"])),
        inputs=inputs,
        out=Path(document["out"]),
        scratch=Path(document["scratch"]),
    )
    return module.run, job


def main(folder: Path) -> NoReturn:
    """Run the job in ``folder`` as one of its ranks, and end."""

    def work() -> Metrics:
        run, job = read_job(read_document(folder))
        return run(job)

    run_as_rank(folder, work)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
