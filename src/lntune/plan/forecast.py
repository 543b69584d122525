"""What a job will take: what earlier results of its kind took, else what is predicted (lntune.estimate.hours).

Forecast(plan).of(node).seconds
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal, get_args

from lntune.benchmarks.registry import benchmarks, question_stages, reference_stages, score_stages
from lntune.config.study import GpuSettings, SelectionSplit
from lntune.estimate.hours import (
    ANSWER_BYTES,
    CHECKPOINT_BYTES,
    ITEM_BYTES,
    SAMPLES,
    SIMILARITY_BYTES,
    START_UP,
    UNKNOWN_BYTES,
    copy_seconds,
    prediction_seconds,
    trained_numbers,
    training_seconds,
    work_seconds,
)
from lntune.estimate.jobs import TrainingJob, predicted, prediction_bytes, similarity_bytes
from lntune.plan.fetched import to_fetch
from lntune.plan.kinds import Kinds
from lntune.plan.memory_fit import job_of, llm_shape, model_name, prompt_tokens, vision_shape
from lntune.plan.node import Node
from lntune.plan.plan import Plan
from lntune.plan.rehearsals import measured
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.plan.study import once
from lntune.stages.draw import Settings as DrawSettings
from lntune.store.manifest import Manifest, slug
from lntune.store.reuse import ResultIndex

Basis = Literal["earlier", "measured", "predicted", "limit"]


@dataclass(frozen=True)
class Expected:
    """What one job will take.

    ``basis`` tells from what ``seconds`` and the result's ``bytes`` are known: the median of ``earlier`` results of its
    kind, what its rehearsal ``measured`` (on which GPU, ``measured_on``), a prediction, or, where there is none of
    these, the scale's time limit, with ``bytes`` None. ``gpus`` that it holds, each one's ``memory`` at its peak, and
    the bytes of a ``checkpoint`` are predicted; 0 for none.
    """

    basis: Basis
    seconds: float
    bytes: int | None
    gpus: int = 0
    memory: int = 0
    checkpoint: int = 0
    measured_on: str = ""


class Forecast:
    """What a plan's jobs will take: those of models on the scale's GPU, all others from counts and bytes."""

    def __init__(self, plan: Plan, index: ResultIndex | None = None) -> None:
        self._plan, self._scale, self._study, self._protocol = plan, plan.scale, plan.study, plan.protocol
        self._gpu = plan.scale.execution.gpu
        self._kinds = Kinds(plan, index or ResultIndex(plan.store))
        self._data = {slug([name]): settings for name, settings in self._scale.data.items()}
        self._benchmarks = {slug([one.name]): one for one in benchmarks()}
        self._benchmarks |= {
            slug([one.name, split]): one for one in benchmarks() if one.split for split in get_args(SelectionSplit)
        }

    @once
    def of(self, node: Node) -> Expected:
        """What a job will take."""
        limit = self._scale.execution.of(node.stage).runtime * 60.0
        predicted = self._predicted(node) or Expected("limit", limit, None)
        if like := self._kinds.like(node):
            size = median(sum(file.bytes for file in one.outputs.values()) for one in like)
            return replace(predicted, basis="earlier", seconds=median(map(_seconds, like)), bytes=round(size))
        return predicted

    def _predicted(self, node: Node) -> Expected | None:
        """None for what works with a model where the scale names no GPU, and for the demo's weights."""
        if node.stage in ("connector", "finetune", "predict", "similarity", "measure"):
            return self._with_model(node, self._gpu) if self._gpu else None
        if node.stage in ("fetch", "convert"):
            return self._copied(node)
        work, items = self._items(node)
        threads = self._scale.execution.of(node.stage).threads if work in ("prepare", "questions") else 1
        return Expected("predicted", work_seconds(work, items, threads), items * ITEM_BYTES[work]) if work else None

    def _with_model(self, node: Node, gpu: GpuSettings) -> Expected:
        settings: Any = node.settings
        given: Any = node.execution
        job = self._job(node)
        if node.stage == "measure":
            return Expected("predicted", 2 * START_UP, ITEM_BYTES["score"], gpus=job.ranks)
        if node.stage in ("connector", "finetune"):
            trained = trained_numbers(job.llm, job.vision, job.method, job.lora)
            samples = _parent(node, "samples")
            data = self._data[samples.label].model_copy(update={"samples": self._samples(samples)})
            memory = predicted(job.setup(given.micro_batch, given.zero_stage)).peak
            seconds, on = measured(self._plan, node) or (training_seconds(job, data, gpu), "")
            known: Basis = "measured" if on else "predicted"
            return Expected(known, seconds, 4 * trained, job.ranks, memory, CHECKPOINT_BYTES * trained, on)
        asked = _parent(node, "questions")
        questions, images = self._asked(asked)
        text = prompt_tokens(settings, self._protocol, self._benchmarks[asked.label].protocol)
        if node.stage == "predict":
            tokens = settings.prompting.max_new_tokens
            written = questions * ANSWER_BYTES
            memory = prediction_bytes(job.llm, job.vision, tokens, given.batch_size, text[0])
        else:
            questions = images = min(questions, settings.questions)
            tokens = 0
            written = (job.llm.layers**2 + questions) * SIMILARITY_BYTES
            memory = similarity_bytes(job.llm, job.vision, given.batch_size, text[0])
        precision = self._scale.finetune.precision
        seconds = prediction_seconds(
            job.llm, job.vision, questions, images, tokens, given.batch_size, gpu, precision, text
        )
        return Expected("predicted", seconds, written, gpus=1, memory=memory)

    def _items(self, node: Node) -> tuple[str, int]:
        """The kind of work that a job without a model does, a key of ITEM_SECONDS, and how much; "" for others."""
        if isinstance(node.settings, DrawSettings):
            return "draw", node.settings.images
        if node.stage == "prepare":
            return "prepare", self._samples(node)
        if node.stage in question_stages():
            return "questions", self._asked(node)[1]
        if node.stage in reference_stages():
            return "references", 5 * self._asked(_parent(node, "questions"))[1]
        if node.stage in score_stages():
            return "score", self._asked(_parent(node, "questions"))[0]
        if node.stage == "select":
            return "score", len(node.players("scores"))
        return ("report", 1) if node.stage in STAGES_OF_REPORT_ITEMS else ("", 0)

    def _copied(self, node: Node) -> Expected:
        """Of files of unknown size, a model's have the bytes of its weights: float16 of LLMs, float32 of encoders."""
        download, copied, unknown = to_fetch(node, self._study.catalog_lock)
        weights = 0
        if llm := model_name(self._scale.llms, node):
            weights = 2 * llm_shape(self._study, llm).parameters if unknown or node.stage == "convert" else 0
        elif vision := model_name(self._scale.visions, node):
            weights = 4 * vision_shape(self._study, vision).parameters if unknown else 0
        if node.stage == "convert":
            copied = weights
        elif unknown:
            guessed = sum(UNKNOWN_BYTES.get(name[-4:], 10**8) for name in unknown)
            download = max(download, weights) if weights else download + guessed
        return Expected("predicted", copy_seconds(copied, download), copied + download)

    def _samples(self, node: Node) -> int:
        """How many samples a node of ``prepare`` will hold: of a drawn set, one an image."""
        data = self._data[node.label]
        raw = _parent(node, "raw").settings
        return data.samples or (raw.images if isinstance(raw, DrawSettings) else SAMPLES[data.format])

    def _asked(self, node: Node) -> tuple[int, int]:
        """How many questions a node makes, and about how many images; of a drawn set, as many an image as really."""
        benchmark = self._benchmarks[node.label]
        questions, images = benchmark.size
        raw = _parent(node, "raw").settings
        if isinstance(raw, DrawSettings):
            questions, images = questions * raw.images // images, raw.images
        questions = min(questions, benchmark.asked(self._protocol.options(benchmark.protocol)) or questions)
        return questions, min(questions, images)

    def _job(self, node: Node) -> TrainingJob:
        """The training job that a node is, or whose model it asks."""
        llm = model_name(self._scale.llms, _parent(node, "llm"))
        vision = model_name(self._scale.visions, _parent(node, "vision"))
        assert llm and vision, "the plan has them from the scale"
        method = "connector-only" if node.stage == "connector" else str(getattr(node.settings, "method", ""))
        return job_of(self._study, node.stage, llm, vision, method)


def _parent(node: Node, role: str) -> Node:
    (parent,) = node.players(role)
    return parent


def _seconds(one: Manifest) -> float:
    """Seconds of all attempts that made a result: the last one's, by the share of the steps that it did."""
    steps, resumed = (one.metrics.get(name) for name in ("steps", "resumed_at"))
    if isinstance(steps, int) and isinstance(resumed, int) and resumed < steps:
        return one.wall_seconds * steps / (steps - resumed)
    return one.wall_seconds
