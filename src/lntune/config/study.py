"""``config.yaml``: what to run, at which scale, under which choices; the numbers are in the scale.

And ``slurm/site.yaml``: a cluster's own names, which the profile ``slurm`` reads.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from lntune.config import Frozen

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


Seed = Annotated[int, Field(ge=0, lt=2**63)]
SelectionSplit = Literal["test", "validation"]


class StudySettings(Frozen):
    """The top-level choices."""

    scale: str = Field(description="a file of workflow/scales, without .yaml")
    report_items: tuple[str, ...] = Field(
        min_length=1, strict=False, description="tables and figures: files of workflow/report_items"
    )
    seeds: tuple[Seed, ...] = Field(
        min_length=1, strict=False, description="each trains every model once; the first also draws data"
    )
    protocol: str = Field(description="how models are asked: a file of workflow/protocols, without .yaml")
    selection_split: SelectionSplit = Field(
        description="Flickr30k split on which learning rates are chosen: test, as in the paper, or validation"
    )
    store: str = Field(min_length=1, description="folder of all results; may be shared")
    copies: dict[str, str] = Field(
        default={}, description="catalogue entry to the folder that holds its files already; nothing is downloaded then"
    )

    @field_validator("report_items", "seeds")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value} is there {values.count(value)} times; keep one")
        return values
