"""draw: one data set of the demo's world, written in the official format."""

from pydantic import Field

from lntune.config import Frozen
from lntune.store.job import Job, Metrics, NoExecution
from lntune.world.datasets import WRITERS

PACKAGES = ("numpy", "pillow")


class Settings(Frozen):
    """Which set, how many images (for mme: a subtask), and the seed."""

    set: str
    images: int = Field(ge=1)
    seed: int


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write the set's files."""
    inputs = {role: job.folder(role) for role in job.inputs}
    WRITERS[job.settings.set](job.out, job.settings.images, job.settings.seed, inputs)
    return {"files": len(list(job.out.iterdir()))}
