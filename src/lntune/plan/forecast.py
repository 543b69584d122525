"""What jobs that never ran will take on the scale's GPU, for ``lntune plan``: seconds, bytes, memory, GPUs.

Everything is predicted from the models' sizes under the assumptions of lntune.estimate.hours. A scale without a GPU
(the demo) gets none of it: its jobs are known from earlier results, or by their time limit.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from lntune.benchmarks.registry import Benchmark, benchmarks
from lntune.config.study import SelectionSplit
from lntune.estimate.fit import TrainingJob, predicted
from lntune.estimate.hours import (
    ANSWER_BYTES,
    SIMILARITY_BYTES,
    prediction_seconds,
    training_seconds,
    tuned_bytes,
)
from lntune.estimate.memory import prediction_bytes, similarity_bytes
from lntune.plan.memory_fit import training_job
from lntune.plan.node import Node
from lntune.plan.plan import Plan
from lntune.plan.study import once
from lntune.store.layout import slug


@dataclass(frozen=True)
class Prediction:
    """Of one job: seconds, bytes of its result, GPUs that it holds, and peak memory on each (None: not predicted)."""

    seconds: float
    bytes: int
    gpus: int
    memory: int | None


class Forecast:
    """Predictions for a plan's jobs."""

    def __init__(self, plan: Plan) -> None:
        self._scale, self._study = plan.scale, plan.study
        self._protocol = plan.protocol
        self._gpu = plan.scale.execution.gpu
        if self._gpu is None:
            return
        self._llms = {id(plan.llm(name)[1]): name for name in self._scale.llms}
        self._visions = {id(plan.vision(name)[1]): name for name in self._scale.visions}
        self._benchmarks = {slug([one.name]): one for one in benchmarks()}
        self._benchmarks |= {
            slug([one.name, split]): one for one in benchmarks() if one.split for split in get_args(SelectionSplit)
        }
        self._data = {slug([name]): settings for name, settings in self._scale.data.items()}

    def of(self, node: Node) -> Prediction | None:
        """What a job will take; None if the scale names no GPU, or for a stage that does not use one."""
        ways = {
            "connector": self._training,
            "finetune": self._training,
            "predict": self._prompting,
            "similarity": self._comparing,
        }
        return ways[node.stage](node) if self._gpu is not None and node.stage in ways else None

    def _training(self, node: Node) -> Prediction:
        assert self._gpu is not None
        job = self._job(node)
        data = self._data[self._parent(node, "samples").label]
        account = predicted(job.setup(self._execution(node, "micro_batch"), self._execution(node, "zero_stage")))
        return Prediction(
            seconds=training_seconds(job, data, self._gpu),
            bytes=tuned_bytes(job.llm, job.vision, job.method, job.lora),
            gpus=job.ranks,
            memory=account.peak,
        )

    def _prompting(self, node: Node) -> Prediction:
        assert self._gpu is not None
        job, batch = self._job(node), self._execution(node, "batch_size")
        benchmark, questions = self._questions(node)
        tokens = self._protocol.prompting(benchmark.protocol).max_new_tokens
        precision = self._scale.finetune.precision
        return Prediction(
            seconds=prediction_seconds(
                job.llm, job.vision, questions, min(questions, benchmark.size[1]), tokens, batch, self._gpu, precision
            ),
            bytes=questions * ANSWER_BYTES,
            gpus=1,
            memory=prediction_bytes(job.llm, job.vision, tokens, batch),
        )

    def _comparing(self, node: Node) -> Prediction:
        assert self._gpu is not None
        job, batch = self._job(node), self._execution(node, "batch_size")
        questions = min(self._questions(node)[1], int(node.settings.model_dump()["questions"]))
        precision = self._scale.finetune.precision
        return Prediction(
            seconds=prediction_seconds(job.llm, job.vision, questions, questions, 0, batch, self._gpu, precision),
            bytes=(job.llm.layers**2 + questions) * SIMILARITY_BYTES,
            gpus=1,
            memory=similarity_bytes(job.llm, job.vision, batch),
        )

    def _questions(self, node: Node) -> tuple[Benchmark, int]:
        """The benchmark whose questions a node is given, and how many it has."""
        benchmark = self._benchmarks[self._parent(node, "questions").label]
        return benchmark, benchmark.asked(self._protocol.options(benchmark.protocol)) or benchmark.size[0]

    def _job(self, node: Node) -> TrainingJob:
        """The training job that a node is, or whose model it asks."""
        llm = self._llms[id(self._parent(node, "llm"))]
        vision = self._visions[id(self._parent(node, "vision"))]
        method = "connector-only" if node.stage == "connector" else str(getattr(node.settings, "method", ""))
        return self._job_of(node.stage, llm, vision, method)

    @once
    def _job_of(self, stage: str, llm: str, vision: str, method: str) -> TrainingJob:
        schedule = self._scale.connector.schedule if stage == "connector" else self._scale.finetune
        job = training_job(self._study, stage, llm, vision, method, schedule)
        assert job is not None, "there is a GPU"
        return job

    @staticmethod
    def _parent(node: Node, role: str) -> Node:
        given = node.inputs[role]
        assert isinstance(given, Node), f"{role} is one result"
        return given

    @staticmethod
    def _execution(node: Node, name: str) -> int:
        return int(getattr(node.execution, name))


def gpu_lines(jobs: Sequence[tuple[str, float, Prediction]]) -> list[str]:
    """GPU-hours by stage and in total, and peak memory by stage, from (stage, seconds, prediction) of jobs."""
    if not jobs:
        return []
    hours: dict[str, float] = defaultdict(float)
    memory: dict[str, int] = defaultdict(int)
    for stage, seconds, prediction in jobs:
        hours[stage] += seconds * prediction.gpus / 3600
        memory[stage] = max(memory[stage], prediction.memory or 0)
    total = sum(hours.values())
    by_stage = ", ".join(f"{stage} {value:,.0f}" for stage, value in hours.items())
    peaks = ", ".join(f"{stage} {value / 1e9:.0f} GB" for stage, value in memory.items() if value)
    return [
        f"GPU-hours: {total:,.0f} predicted ({by_stage})",
        f"peak memory on a GPU, predicted: {peaks}",
    ]


def gpu_document(jobs: Sequence[tuple[str, float, Prediction]]) -> dict[str, dict[str, float]]:
    """The same for scripts: by stage, predicted GPU-hours and the largest predicted peak in bytes."""
    found: dict[str, dict[str, float]] = {}
    for stage, seconds, prediction in jobs:
        entry = found.setdefault(stage, {"predicted_gpu_hours": 0.0, "predicted_peak_bytes": 0})
        entry["predicted_gpu_hours"] += seconds * prediction.gpus / 3600
        entry["predicted_peak_bytes"] = max(entry["predicted_peak_bytes"], prediction.memory or 0)
    return found
