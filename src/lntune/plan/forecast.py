"""What a job will take: what earlier results of its kind took, else what is predicted (lntune.estimate.hours).

    Forecast(plan).of(node).seconds

A kind is the stage, the settings that set the amount of work, how it is carried out, the shapes of the models, and the
kinds of the data, down to what was drawn or fetched. No scale's, label's or model's name is part of it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

from lntune.benchmarks.registry import benchmarks, question_stages, reference_stages, score_stages
from lntune.config.llm_shape import LlmShape
from lntune.config.study import GpuSettings, SelectionSplit
from lntune.config.training import AnswerPrecision
from lntune.errors import UserError
from lntune.estimate import hours
from lntune.estimate.jobs import TrainingJob, largest, prediction_bytes, similarity_bytes
from lntune.estimate.memory import WEIGHT_BYTES
from lntune.estimate.shapes import VisionShape, llm_on_disk, vision_on_disk
from lntune.plan.fetched import to_fetch
from lntune.plan.memory_fit import job_of, model_name, planned_shape, prompt_tokens
from lntune.plan.models import chance, samples_of, share_of
from lntune.plan.node import Node, Part
from lntune.plan.plan import Plan
from lntune.plan.rehearsals import measured
from lntune.plan.stages import STAGES_OF_REPORT_ITEMS
from lntune.plan.study import once
from lntune.stages.draw import Settings as DrawSettings
from lntune.stages.finetune import Settings as FinetuneSettings
from lntune.stages.halve import Settings as HalveSettings
from lntune.store.identity import digest
from lntune.store.job import EARLIER, KEPT
from lntune.store.manifest import InputRecord, Manifest, slug
from lntune.store.reuse import ResultIndex
from lntune.training.endings import NO_MODEL
from lntune.training.schedule import total_steps


@dataclass(frozen=True)
class Expected:
    """What one job will take.

    ``basis`` tells from what ``seconds`` and the result's ``bytes`` are known: the median of ``earlier`` results of its
    kind, what its rehearsal ``measured`` (on which GPU, ``measured_on``), a prediction, or, where there is none of
    these, the scale's time limit, with ``bytes`` None. ``gpus`` that it holds, each one's ``memory`` at its peak, and
    the bytes of a ``checkpoint`` and of all that are ``saved`` are predicted; 0 for none. ``chance`` is how likely the
    job has any work to do: it may be of a candidate that its search will not keep. ``waste`` are those of the seconds
    that each kind of waste takes, which overlap: predicted as well, and of candidates alone for jobs whose time is
    known otherwise.
    """

    basis: Literal["earlier", "measured", "predicted", "limit"]
    seconds: float
    bytes: int | None
    gpus: int = 0
    memory: int = 0
    checkpoint: int = 0
    measured_on: str = ""
    chance: float = 1.0
    waste: Mapping[str, float] = field(default_factory=dict)
    saved: int = 0


class Forecast:
    """What a plan's jobs will take: those of models on the scale's GPU, all others from counts and bytes."""

    def __init__(self, plan: Plan, index: ResultIndex | None = None) -> None:
        self._plan, self._scale, self._study, self._protocol = plan, plan.scale, plan.study, plan.protocol
        self._kinds = _Kinds(plan, index or ResultIndex(plan.store))
        splits = [[], *([split] for split in get_args(SelectionSplit))]
        self._benchmarks = {slug([one.name, *split]): one for one in benchmarks() for split in splits}

    @once
    def of(self, node: Node) -> Expected:
        """What a job will take."""
        limit = self._scale.execution.of(node.stage).runtime * 60.0
        found = self._predicted(node) or Expected("limit", limit, None)
        found = replace(found, chance=chance(self._plan.store, node))
        if like := self._kinds.like(node):
            seconds = share_of(node) * median(map(_seconds, like))
            size = median(sum(file.bytes for file in one.outputs.values()) for one in like)
            found = replace(found, basis="earlier", seconds=seconds, bytes=round(size), waste={})
        share = self._rejected(node)
        return replace(found, waste={**found.waste, hours.REJECTED: share * found.seconds}) if share else found

    def _rejected(self, node: Node) -> float:
        """The share of a job that a search's other candidates make waste of: all but one of those that get so far."""
        tuned = node.players("tuned")[0] if node.stage == "predict" else node
        if not isinstance(tuned.settings, FinetuneSettings):
            return 0.0
        if isinstance(kept := tuned.inputs.get(KEPT), Part) and isinstance(kept.node.settings, HalveSettings):
            return 1 - 1 / kept.node.settings.keep
        rates = self._scale.methods[tuned.settings.method].learning_rates
        return 1 - 1 / len(rates) if tuned.settings.training.learning_rate in rates else 0.0

    def _predicted(self, node: Node) -> Expected | None:
        """None for what works with a model where the scale names no GPU, and for the demo's weights."""
        if node.stage in ("connector", "finetune", "predict", "similarity", "measure"):
            gpu = self._scale.execution.gpu
            return self._with_model(node, gpu) if gpu else None
        if node.stage in ("fetch", "convert"):
            return self._copied(node)
        work, items = self._items(node)
        if not work:
            return None
        threads = self._scale.execution.of(node.stage).threads if work in ("prepare", "questions") else 1
        return Expected("predicted", *hours.work_taken(work, items, threads))

    def _with_model(self, node: Node, gpu: GpuSettings) -> Expected:
        settings: Any = node.settings
        given: Any = node.execution
        job = self._job(node)
        start = hours.start_up(read := self._read(node))
        if node.stage == "measure":
            return Expected("predicted", 2 * start, hours.WORK["score"][1], gpus=job.ranks)
        if node.stage in ("connector", "finetune"):
            account, samples = largest(job, given, given.zero_stage).account, node.players("samples")[0]
            size, checkpoint = 4 * account.trainable, hours.checkpoint_bytes(job)
            if tried := measured(self._plan, node):
                return Expected("measured", tried[0], size, job.ranks, account.peak, checkpoint, tried[1])
            share = share_of(node)
            seconds = share * hours.training_seconds(job, *samples_of(samples), gpu, given)
            waste = hours.training_waste(job, *samples_of(samples), gpu, given)
            waste = {kind: share * one for kind, one in waste.items()}
            steps = total_steps(samples_of(samples)[0], job.schedule.at(1.0))
            written = checkpoint * (number := hours.checkpoints(seconds, round(share * steps), given))
            start = hours.start_up(read, WEIGHT_BYTES[job.schedule.precision] * account.parameters)
            waste |= {hours.STARTING: start, hours.SAVING: hours.saving_seconds(seconds, written, number, start)}
            seconds += start + waste[hours.SAVING]
            return Expected("predicted", seconds, size, job.ranks, account.peak, checkpoint, waste=waste, saved=written)
        asked = node.players("questions")[0]
        questions, images = self._asked(asked)
        text = prompt_tokens(settings, self._protocol, self._benchmarks[asked.label].protocol)
        if node.stage == "predict":
            tokens = settings.prompting.max_new_tokens
            written = questions * hours.LINE_BYTES
            memory = prediction_bytes(job.llm, job.vision, tokens, given.batch_size, text[0], settings.precision)
        else:
            questions = images = min(questions, settings.questions)
            tokens = 0
            written = (job.llm.layers**2 + questions) * hours.SIMILARITY_BYTES
            memory = similarity_bytes(job.llm, job.vision, given.batch_size, text[0])
        precisions: tuple[AnswerPrecision, ...] = (settings.precision if node.stage == "predict" else "fp32", "bf16")
        seconds, fast = (
            hours.prediction_seconds(job, questions, images, tokens, given.batch_size, gpu, text, one)
            for one in precisions
        )
        waste = {hours.STARTING: start, hours.SLOW: seconds - fast}
        return Expected("predicted", start + seconds, written, gpus=1, memory=memory, waste=waste)

    def _read(self, node: Node) -> int:
        """Bytes of a job's inputs; of a model that is chosen those of any candidate."""
        inputs = [one for role in node.inputs for one in node.players(role)]
        inputs = [one.players("candidates")[0] if one.stage == "select" else one for one in inputs]
        return sum(self.of(one).bytes or 0 for one in inputs)

    def _items(self, node: Node) -> tuple[str, int]:
        """The kind of work that a job without a model does, one of hours.WORK, and how much; "" for others."""
        if isinstance(node.settings, DrawSettings):
            return "draw", node.settings.images
        if node.stage == "prepare":
            return "prepare", samples_of(node)[0]
        if node.stage == "encode":
            return "encode", samples_of(node)[0]
        if node.stage in question_stages():
            return "questions", self._asked(node)[1]
        if node.stage in reference_stages():
            return "references", 5 * self._asked(node.players("questions")[0])[1]
        if node.stage in score_stages():
            return "score", self._asked(node.players("questions")[0])[0]
        if node.stage in ("halve", "select"):
            return "score", len(node.players("scores"))
        return ("report", 1) if node.stage in STAGES_OF_REPORT_ITEMS else ("", 0)

    def _copied(self, node: Node) -> Expected:
        """Of files of unknown size, a model's have the bytes of its weights: float16 of LLMs, float32 of encoders."""
        download, copied, unknown = to_fetch(node, self._study.catalog_lock)
        shape = planned_shape(self._study, node) if unknown or node.stage == "convert" else None
        weights = (2 if isinstance(shape, LlmShape) else 4) * shape.parameters if shape else 0
        if node.stage == "convert":
            copied = weights
        elif unknown:
            guessed = sum(hours.UNKNOWN_BYTES.get(name[-4:], 10**8) for name in unknown)
            download = max(download, weights) if weights else download + guessed
        return Expected("predicted", hours.copy_seconds(copied, download), copied + download)

    def _asked(self, node: Node) -> tuple[int, int]:
        """How many questions a node makes, and about how many images; of a drawn set, as many an image as really."""
        benchmark = self._benchmarks[node.label]
        questions, images = benchmark.size
        raw = node.players("raw")[0].settings
        if isinstance(raw, DrawSettings):
            questions, images = questions * raw.images // images, raw.images
        questions = min(questions, benchmark.asked(self._protocol.options(benchmark.protocol)) or questions)
        return questions, min(questions, images)

    def _job(self, node: Node) -> TrainingJob:
        """The training job that a node is, or whose model it asks."""
        llm = model_name(self._scale.llms, node.players("llm")[0])
        vision = model_name(self._scale.visions, node.players("vision")[0])
        assert llm and vision, "the plan has them from the scale"
        method = "connector-only" if node.stage == "connector" else str(getattr(node.settings, "method", ""))
        job = job_of(self._study, node.stage, llm, vision, method)
        return replace(job, ranks=getattr(node.execution, "ranks", job.ranks))


def _seconds(one: Manifest) -> float:
    """Seconds of a whole run by what is known of a result's last attempt, from the share of the steps that it did."""
    found = [one.metrics.get(name) for name in ("steps", "resumed_at", "of_steps")]
    steps, resumed, whole = (value if isinstance(value, int) else 0 for value in found)
    return one.wall_seconds * (whole or steps) / (steps - resumed) if steps > resumed else one.wall_seconds


# --- earlier results ---------------------------------------------------------------------------------------------

_NO_WORK = {
    "learning_rate", "learning_rates", "seed", "misaligned_share", "broken_share", "paper", "template", "system",
    "until",
}  # fmt: skip
"""Settings that change a result and hardly the time that it takes, or by a share that is known."""

_IMPLIED = ("connector", "tuned", EARLIER, KEPT)
"""Inputs whose size follows from the models and the method."""


class _Kinds:
    """The kinds of a plan's nodes, and of the results that its store holds."""

    def __init__(self, plan: Plan, index: ResultIndex) -> None:
        self._plan, self._index = plan, index
        self._known: dict[int, str | None] = {}  # nodes and manifests live as long as plan and index

    def like(self, node: Node) -> list[Manifest]:
        """Up to 20 finished results of a node's kind, the newest; those that bear its label alone if there are any."""
        execution = self._plan.scale.execution
        fitting = [*self._finished(node.stage).get(self._kind(node) or "", ())]
        if execution.of(node.stage).gpus:
            gpu = execution.gpu
            fitting = [one for one in fitting if any(not gpu or gpu.is_kind_of(name) for name in one.machine.gpus[:1])]
        return ([one for one in fitting if one.label == node.label] or fitting)[:20]

    @once
    def _finished(self, stage: str) -> Mapping[str, Sequence[Manifest]]:
        found = defaultdict(list)
        for label in self._index.labels(stage):
            for one in self._index.named(stage, label):
                if NO_MODEL not in one.metrics:  # it ended early
                    found[self._kind(one) or "unknown"].append(one)
        return {kind: sorted(ones, key=lambda one: one.ended, reverse=True) for kind, ones in found.items()}

    def _kind(self, one: Node | Manifest) -> str | None:
        """The hash of a kind; None if that of an input is not known."""
        if id(one) not in self._known:
            if isinstance(one, Node):
                settings, execution = one.settings.model_dump(mode="json"), one.execution.model_dump(mode="json")
                inputs: list[tuple[str, Node | InputRecord]] = [
                    (role, given) for role in one.inputs for given in one.players(role)
                ]
            else:
                settings, execution, inputs = one.settings, one.execution, [*one.parents()]
            if one.stage in STAGES_OF_REPORT_ITEMS:
                settings = {}
            if one.stage in (*STAGES_OF_REPORT_ITEMS, "fetch"):  # paths and addresses
                execution = {}
            library = settings.get("library")
            sizes = [[role, self._size(role, given, library)] for role, given in inputs if role not in _IMPLIED]
            whole = all(size for _, size in sizes)
            self._known[id(one)] = digest([one.stage, _work(settings), execution, sorted(sizes)]) if whole else None
        return self._known[id(one)]

    def _size(self, role: str, given: Node | InputRecord, library: Any) -> str | None:
        """What an input's size follows from: a model's shape, or the kind of the data; None if it is gone."""
        if role in ("llm", "vision"):
            shape = _on_disk(role, self._plan.store.folder(given.stage, given.label, given.id), library)
            if shape is None and isinstance(given, Node):
                with suppress(UserError):  # it has not been fetched
                    shape = planned_shape(self._plan.study, given)
            return shape.model_dump_json() if shape else None
        if isinstance(given, Node):
            return self._kind(given)
        known = self._index.named(given.stage, given.label)
        return next((self._kind(one) for one in known if one.id == given.id), None)


def _work(value: Any) -> Any:
    """Settings without those that set no amount of work."""
    if isinstance(value, Mapping):
        return {key: _work(one) for key, one in value.items() if key not in _NO_WORK}
    return value


@once
def _on_disk(role: str, folder: Path, library: Any) -> LlmShape | VisionShape | None:
    """The shape of a model whose config a result holds; None if it is gone or is none."""
    with suppress(UserError, KeyError, TypeError):
        return llm_on_disk(folder) if role == "llm" else vision_on_disk(folder, str(library))
    return None
