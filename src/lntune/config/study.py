"""What a user chooses: ``config.yaml``, a scale with everything that differs between the demo and the paper, a cluster.

The keys of a scale's ``sources``, ``llms``, ``visions``, ``data`` and ``methods`` are names that report items refer to.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lntune.config import Frozen
from lntune.config.load import shown
from lntune.config.protocol import TemplateName
from lntune.config.training import (
    AnswerPrecision,
    ConnectorKind,
    EngineName,
    Library,
    LoraSettings,
    PlannedGpu,
    Precision,
    Schedule,
)
from lntune.errors import UserError

Seed = Annotated[int, Field(ge=0, lt=2**63)]
SelectionSplit = Literal["test", "validation"]


class RehearsalSettings(Frozen):
    """Which LLMs and methods are rehearsed, and in how many processes."""

    llms: tuple[str, ...] = Field(default=(), strict=False, description="of the scale; none: all")
    methods: tuple[str, ...] = Field(default=(), strict=False, description="of the scale; none: all")
    ranks: int | None = Field(
        default=None, ge=1, description="of DeepSpeed, where the scale trains in one process; null: as the scale says"
    )
    round: int = Field(default=1, ge=1, description="another number rehearses again, as after an update of the driver")


Tracker = Literal["tensorboard", "wandb", "trackio"]


class TrackingSettings(Frozen):
    """Where the logs of trainings are sent while they grow; none of it decides a result."""

    to: tuple[Tracker, ...] = Field(default=(), strict=False, description="trackers, which must be installed")
    project: str = Field(default="lntune", min_length=1, description="for wandb and trackio")
    online: bool = Field(
        default=False, description="wandb: send to its server at once, and not keep it for `wandb sync`"
    )

    @field_validator("to")
    @classmethod
    def _are_installed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if find_spec(name) is None:
                raise ValueError(f"{name} is not installed here: `pip install {name}` into .venv, or leave it out")
        return names


class Halving(Frozen):
    """A search of learning rates by successive halving (Jamieson and Talwalkar, 2016) on the unchanged schedule.

    When a share ``at`` of the steps is done, only the best of ``keep`` go on, by the score that chooses in the end.
    """

    keep: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1, strict=False)
    at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1, strict=False)

    @field_validator("keep", "at")
    @classmethod
    def _in_order(cls, values: tuple[Any, ...], about: ValidationInfo) -> tuple[Any, ...]:
        ordered = sorted(set(values), reverse=about.field_name == "keep")
        if list(values) != ordered:
            way = "fall" if about.field_name == "keep" else "rise"
            raise ValueError(f"the numbers must {way} from round to round, got {list(values)}; write {ordered}")
        return values

    @model_validator(mode="after")
    def _as_many(self) -> "Halving":
        if len(self.keep) != len(self.at):
            raise ValueError(f"keep has {len(self.keep)} rounds and at {len(self.at)}; give both as many numbers")
        return self

    def rounds(self, candidates: int) -> tuple[tuple[int, float], ...]:
        """How many go on, and at which share of the steps, in each round that so many candidates are too many for."""
        return tuple((keep, at) for keep, at in zip(self.keep, self.at, strict=True) if keep < candidates)

    @property
    def text(self) -> str:
        """The choice in words."""
        rounds = (f"the best {keep} at {at:g} of the steps" for keep, at in zip(self.keep, self.at, strict=True))
        return f"successive halving ({', '.join(rounds)})"


def expanded(file: Path, key: str, folder: str) -> str:
    """A folder that ``file`` names, ``~`` and variables replaced; UserError for an unknown user or variable."""
    unset = [name for name in re.findall(r"\$\{?(\w+)", folder) if not os.environ.get(name)]
    path = os.path.expanduser(os.path.expandvars(folder))
    if unset or path.startswith("~"):
        what = f"the variable {unset[0]} is not set" if unset else "no home folder is known"
        raise UserError(f"{shown(file)}: {key}: {folder!r}: {what}; write the path out")
    return path


class StudySettings(Frozen):
    """``config.yaml``: what to run, at which scale, under which choices."""

    scale: str = Field(description="a file of workflow/scales, without .yaml")
    report_items: tuple[str, ...] = Field(
        min_length=1, strict=False, description="tables and figures: files of workflow/report_items"
    )
    seeds: tuple[Seed, ...] = Field(
        min_length=1, strict=False, description="each trains every model once; the first also draws data"
    )
    protocol: str = Field(description="how models are asked: a file of workflow/protocols, without .yaml")
    selection_split: SelectionSplit | None = Field(
        default=None, description="Flickr30k split on which learning rates are chosen, if not the scale's"
    )
    search: Halving | None = Field(
        default=None,
        description="of learning rates, if not the scale's: full (every one to its end) or {keep: [..], at: [..]}",
    )
    store: str = Field(min_length=1, description="folder of all results; may be shared")
    rehearsal: RehearsalSettings = RehearsalSettings()
    tracking: TrackingSettings = TrackingSettings()
    copies: dict[str, str] = Field(
        default={}, description="catalogue entry to the folder that holds its files already; nothing is downloaded then"
    )

    def store_folder(self, file: Path) -> Path:
        """The folder of all results; UserError, which names ``file``, for one that Snakemake cannot have in a path."""
        path = expanded(file, "store", self.store)
        if unfit := re.search(r"[{}<>\x00-\x1f]|://", path):  # Snakemake reads them in the paths of rules
            raise UserError(f"{shown(file)}: store: {path!r}: name a folder without {unfit[0]!r}")
        return Path(path)

    @field_validator("search", mode="before")
    @classmethod
    def _full(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "full":
            raise ValueError(f"expected full, or a mapping such as {{keep: [4, 2], at: [0.2, 0.4]}}, got {value!r}")
        return None if value == "full" else value

    @field_validator("report_items", "seeds")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value} is there {values.count(value)} times; keep one")
        return values


class DrawSettings(Frozen):
    """A data set drawn from the demo's world: which one, with how many images."""

    set: str
    images: int = Field(ge=1)


class SourceSettings(Frozen):
    """Where raw files come from: drawn from the demo's world, or fetched by the catalogue."""

    draw: DrawSettings | None = None
    fetch: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "SourceSettings":
        if (self.draw is None) == (self.fetch is None):
            raise ValueError("give exactly one of draw and fetch")
        return self


class LlmSettings(Frozen):
    """An LLM: its folder in the catalogue, its name in tables, and the prompt template that it is tuned with.

    ``system`` replaces the template's system sentence; "" leaves it out, null keeps it. ``convert``: published as
    PyTorch's pickles, made into safetensors once. Its size is the catalogue's to say.
    """

    title: str
    weights: str
    template: TemplateName
    system: str | None = None
    convert: bool = False


class VisionSettings(Frozen):
    """A vision encoder: its folder in the catalogue and the library that reads it."""

    weights: str
    library: Library


class TrainingData(Frozen):
    """A training set: which source, in which format, which of LLaVA-Instruct's types, and how many of them."""

    source: str
    format: Literal["llava-pretrain", "llava-instruct"]
    types: tuple[Literal["conversation", "detail", "complex_reasoning"], ...] = Field(default=(), strict=False)
    samples: int | None = Field(default=None, ge=1, description="null: all")

    @model_validator(mode="after")
    def _types_of_instruct(self) -> "TrainingData":
        if self.types and self.format != "llava-instruct":
            raise ValueError(f"types are those of llava-instruct; leave them out for {self.format}")
        return self


TokenChoice = Literal["all", "image", "text", "last"]

LearningRate = Annotated[float, Field(gt=0, lt=1)]
LearningRates = Annotated[tuple[LearningRate, ...], Field(min_length=1, strict=False)]


class ConnectorStage(Frozen):
    """The connector, and its pretraining: data, learning rate and schedule."""

    kind: ConnectorKind = "linear"
    data: str
    learning_rate: LearningRate
    schedule: Schedule


class MethodSettings(Frozen):
    """The learning rates that are tried for one tuning method, and LoRA's shape.

    ``zero_stage`` is DeepSpeed's for this method and no part of a result: 3 where everything trains, 2 where most is
    frozen.
    """

    learning_rates: LearningRates
    lora: LoraSettings | None = None
    zero_stage: int = Field(default=2, ge=0, le=3)


class SimilaritySettings(Frozen):
    """On what layers are compared: how many questions of which benchmark, and which of their tokens."""

    benchmark: str
    questions: int = Field(ge=1)
    tokens: TokenChoice


class PredictionSettings(Frozen):
    """In which precision questions are answered.

    In bf16 a tenth of all tokens are so nearly a tie that the batch decides them, so its size is part of the result.
    """

    precision: AnswerPrecision = "fp32"
    batch: int | None = Field(default=None, ge=1, description="questions at a time in bf16")

    @model_validator(mode="after")
    def _batch_of_bf16(self) -> "PredictionSettings":
        if (self.batch is None) == (self.precision == "bf16"):
            raise ValueError(
                "bf16 needs batch, which its answers depend on: add it, such as batch: 32"
                if self.batch is None
                else "in fp32 answers do not depend on batch; give it as execution.prediction_batch"
            )
        return self

    @property
    def text(self) -> str:
        """What a table says of it: nothing of fp32."""
        return "" if self.batch is None else f"{self.precision}, {self.batch} questions at a time"


class MeasureSettings(Frozen):
    """The training step whose memory is measured (Table 2, Figure 1); what is not here is as in finetuning."""

    precision: Precision
    gradient_checkpointing: bool = Field(default=False, description="recompute activations in the backward pass")


class Stage(Frozen):
    """What one kind of job is given; none of it decides a result."""

    threads: int = Field(default=1, ge=1)
    mem_mb: int = Field(default=1000, ge=1)
    runtime: int = Field(default=30, ge=1, description="minutes")
    gpus: int = Field(default=0, ge=0)

    def on(self, gpus: int) -> "Stage":
        """The part of it that belongs to so many of its GPUs."""
        if not 0 < gpus < self.gpus:
            return self
        shared = {name: -(-getattr(self, name) * gpus // self.gpus) for name in ("threads", "mem_mb")}
        return self.model_copy(update={"gpus": gpus, **shared})


class GpuSettings(PlannedGpu):
    """The GPU that training is planned for, and its speed.

    ``memory_gb`` is what a program may take, in 10**9 bytes (torch.cuda.get_device_properties(0).total_memory): 85.0
    for an A100 of "80 GB", whose maker counts in 2**30.
    """

    reserve_gb: float = Field(default=4.0, ge=0, description="what CUDA, NCCL and fragmentation are left")
    teraflops: float = Field(gt=0, description="dense matrix products at the scale's precision, by the data sheet")
    fp32_teraflops: float | None = Field(default=None, gt=0, description="in float32; null: as an A100's")
    utilisation: float = Field(default=0.35, gt=0, le=1, description="share of that which training reaches (assumed)")


class ExecutionSettings(Frozen):
    """How the work is carried out; none of it decides a result.

    With ``gpu`` the plan chooses how many positions a pass has, of ``micro_batch`` samples at most, and which passes
    recompute their activations, so that training fits the GPU.
    """

    engine: EngineName = "plain"
    device: Literal["auto", "cpu"] = Field(
        default="auto", description="auto: a job that is given GPUs ends if it cannot use them; cpu: no job uses any"
    )
    gpu: GpuSettings | None = None
    one_gpu_hours: float | None = Field(
        default=None, gt=0, description="a training that one GPU ends in so many, predicted, gets one; null: none does"
    )
    micro_batch: int = Field(ge=1, description="samples in one forward and backward pass, at most")
    gradient_checkpointing: bool | None = Field(
        default=None, description="recompute activations in the backward pass; null: where memory needs it"
    )
    checkpoint_steps: int | None = Field(default=None, ge=1, description="steps between checkpoints; null: any")
    checkpoint_minutes: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        default=None, description="minutes between them; auto: as their predicted cost asks for; null: any"
    )
    cache_features: bool
    prediction_batch: int = Field(ge=1)
    default: Stage
    stages: dict[str, Stage] = Field(default={}, description="stages that are given something else")

    def of(self, stage: str) -> Stage:
        """What a job of this stage is given.

        A rehearsal, unless it says so, what finetuning is, for a quarter hour; another's model what ours are to answer.
        """
        if stage == "rehearse" and stage not in self.stages:
            return self.of("finetune").model_copy(update={"runtime": 15})
        if stage == "predict-other" and stage not in self.stages:
            return self.of("predict")
        return self.stages.get(stage, self.default)


class ScaleSettings(Frozen):
    """One file of workflow/scales."""

    note: str = Field(description="shown on every table")
    numerics: Literal["native", "portable"] = Field(
        default="native",
        description="native: as fast as the CPU allows; portable: the same bytes on every x86-64 CPU with AVX2",
    )
    misaligned_share: float = Field(ge=0, le=1, description="share of samples that may have no loss; above it: stop")
    broken_share: float = Field(
        default=0.0, ge=0, le=1, description="share of samples or questions whose image may be unusable"
    )
    sources: dict[str, SourceSettings]
    llms: dict[str, LlmSettings]
    visions: dict[str, VisionSettings]
    vision: str = Field(description="the default vision encoder")
    data: dict[str, TrainingData]
    connector: ConnectorStage
    finetune: Schedule
    methods: dict[str, MethodSettings]
    sweeps: dict[str, LearningRates] = Field(
        default={}, description="learning rates that tables show one by one, for a method (Table A1)"
    )
    benchmarks: dict[str, tuple[str, ...]] = Field(strict=False, description="the sources of each benchmark")
    search: Halving | None = Field(default=None, description="of learning rates; null: full, as in the paper")
    selection_split: SelectionSplit = Field(
        default="test",
        description="of Flickr30k, on which learning rates are chosen: test, as in the paper, or validation",
    )
    similarity: SimilaritySettings
    prediction: PredictionSettings = PredictionSettings()
    measure: MeasureSettings | None = Field(default=None, description="null: as in finetuning")
    execution: ExecutionSettings


# What goes into sbatch's command line, and so holds neither spaces nor quotes.
_NAME = r"^[A-Za-z0-9._,:+-]+$"


class ClusterSettings(Frozen):
    """``slurm/site.yaml``: where jobs go; what they ask for is in the scale. None of it decides a result."""

    partition: str | None = Field(default=None, pattern=_NAME, description="of jobs without GPUs; null: the default")
    gpu_partition: str | None = Field(default=None, pattern=_NAME, description="of jobs with GPUs; null: as partition")
    time_limit: int | None = Field(default=None, ge=30, description="minutes that ``partition`` allows; null: any")
    gpu_time_limit: int | None = Field(default=None, ge=30, description="minutes that ``gpu_partition`` allows")
    gpu_model: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.]+$", description="null: any GPU will do")
    account: str | None = Field(default=None, pattern=_NAME)
    qos: str | None = Field(default=None, pattern=_NAME)
    warning_seconds: int = Field(
        default=300, ge=0, le=65535, description="before its time limit a job with GPUs gets SIGUSR1; 0: it does not"
    )
    login_node: tuple[str, ...] = Field(
        default=(), strict=False, description="stages that run where Snakemake runs and not in jobs of their own"
    )
