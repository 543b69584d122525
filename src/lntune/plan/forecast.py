"""What a job that never ran will take: predicted from the models' sizes, under the assumptions of lntune.estimate.

Forecast(plan).of(node).seconds
"""

from dataclasses import dataclass
from typing import Any, get_args

from lntune.benchmarks.registry import benchmarks
from lntune.config.study import SelectionSplit
from lntune.estimate.hours import (
    ANSWER_BYTES,
    SIMILARITY_BYTES,
    prediction_seconds,
    training_seconds,
    tuned_bytes,
)
from lntune.estimate.jobs import TrainingJob, predicted, prediction_bytes, similarity_bytes
from lntune.plan.memory_fit import prompt_tokens, training_job
from lntune.plan.node import Node
from lntune.plan.plan import Plan
from lntune.store.manifest import slug


@dataclass(frozen=True)
class Prediction:
    """Of one job: seconds, bytes of its result, GPUs that it holds, and the bytes that each takes at its peak."""

    seconds: float
    bytes: int
    gpus: int
    memory: int


class Forecast:
    """Predictions for a plan's jobs on the scale's GPU."""

    def __init__(self, plan: Plan) -> None:
        self._scale, self._study, self._protocol = plan.scale, plan.study, plan.protocol
        self._gpu = plan.scale.execution.gpu
        if self._gpu is None:
            return
        self._llms = {id(plan.llm(name)): name for name in self._scale.llms}
        self._visions = {id(plan.vision(name)): name for name in self._scale.visions}
        self._data = {slug([name]): settings for name, settings in self._scale.data.items()}
        self._benchmarks = {slug([one.name]): one for one in benchmarks()}
        self._benchmarks |= {
            slug([one.name, split]): one for one in benchmarks() if one.split for split in get_args(SelectionSplit)
        }

    def of(self, node: Node) -> Prediction | None:
        """What a job will take; None if the scale names no GPU, or for a stage that does not use one."""
        if self._gpu is None or node.stage not in ("connector", "finetune", "predict", "similarity"):
            return None
        settings: Any = node.settings
        given: Any = node.execution
        job = self._job(node)
        if node.stage in ("connector", "finetune"):
            return Prediction(
                seconds=training_seconds(job, self._data[_parent(node, "samples").label], self._gpu),
                bytes=tuned_bytes(job.llm, job.vision, job.method, job.lora),
                gpus=job.ranks,
                memory=predicted(job.setup(given.micro_batch, given.zero_stage)).peak,
            )
        benchmark = self._benchmarks[_parent(node, "questions").label]
        questions = benchmark.asked(self._protocol.options(benchmark.protocol)) or benchmark.size[0]
        text = prompt_tokens(settings, self._protocol, benchmark.protocol)
        if node.stage == "predict":
            images, tokens = min(questions, benchmark.size[1]), settings.prompting.max_new_tokens
            written = questions * ANSWER_BYTES
            memory = prediction_bytes(job.llm, job.vision, tokens, given.batch_size, text[0])
        else:
            questions = images = min(questions, settings.questions)
            tokens = 0
            written = (job.llm.layers**2 + questions) * SIMILARITY_BYTES
            memory = similarity_bytes(job.llm, job.vision, given.batch_size, text[0])
        precision = self._scale.finetune.precision
        seconds = prediction_seconds(
            job.llm, job.vision, questions, images, tokens, given.batch_size, self._gpu, precision, text
        )
        return Prediction(seconds, written, gpus=1, memory=memory)

    def _job(self, node: Node) -> TrainingJob:
        """The training job that a node is, or whose model it asks."""
        llm, vision = self._llms[id(_parent(node, "llm"))], self._visions[id(_parent(node, "vision"))]
        method = "connector-only" if node.stage == "connector" else str(getattr(node.settings, "method", ""))
        job = training_job(self._study, node.stage, llm, vision, method)
        assert job is not None, "there is a GPU"
        return job


def _parent(node: Node, role: str) -> Node:
    (parent,) = node.players(role)
    return parent
