"""``slurm/site.yaml``: a cluster's own names, read by the profile ``slurm`` beside it."""

from pydantic import Field

from lntune.config.base import Frozen

# What goes into sbatch's command line, and so holds neither spaces nor quotes.
_NAME = r"^[A-Za-z0-9._,:+-]+$"


class ClusterSettings(Frozen):
    """Where jobs go; what they ask for is in the scale. None of it decides a result."""

    partition: str | None = Field(default=None, pattern=_NAME, description="of jobs without GPUs; null: the default")
    gpu_partition: str | None = Field(default=None, pattern=_NAME, description="of jobs with GPUs; null: as partition")
    gpu_model: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.]+$", description="null: any GPU will do")
    account: str | None = Field(default=None, pattern=_NAME)
    qos: str | None = Field(default=None, pattern=_NAME)
    warning_seconds: int = Field(
        default=300, ge=0, le=65535, description="before its time limit a job with GPUs gets SIGUSR1; 0: it does not"
    )
    login_node: tuple[str, ...] = Field(
        default=(), strict=False, description="stages that run where Snakemake runs and not in jobs of their own"
    )
