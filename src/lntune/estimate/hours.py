"""Time and disk that jobs take before anything has run: predicted, and none of it was measured at the paper's scale.

    training_seconds(job, 80_000, "llava-instruct", gpu)
    work_taken("prepare", items=80_000, threads=16)

A training step's operations follow from the model's sizes: two a weight and token forward, two for the gradient of a
layer's input, two for that of a weight that trains, and the forward pass again where activations are recomputed. A GPU
does ``teraflops`` x ``utilisation`` of them a second. What is assumed besides is in the constants here.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from lntune.config.llm_shape import LlmShape
from lntune.config.study import GpuSettings
from lntune.config.training import AnswerPrecision, Execution, Passes, Precision
from lntune.estimate.jobs import ANSWER_BYTES, PROMPT_TOKENS, TrainingJob
from lntune.estimate.shapes import VisionShape, skeleton

PREFIX_TOKENS = 45
"""Of PROMPT_TOKENS, those before the image's (assumed: Vicuna's system text)."""

TEXT_TOKENS: Mapping[str, tuple[int, int]] = {"llava-pretrain": (20, 16), "llava-instruct": (260, 180)}
"""Tokens of text of an average sample, and those of them that are answers (assumed)."""

SAMPLES: Mapping[str, int] = {"llava-pretrain": 595_375, "llava-instruct": 80_000}
"""Samples of the two sets where the scale takes all."""

STARTED = 30.0
"""Seconds of a job's start besides reading: imports (9 of CPU, measured), CUDA, joining the ranks (assumed)."""

STORE_SPEED, HASH_SPEED = 5e8, 2e9
"""Bytes a second that a cluster's store gives and takes (assumed); of weights, copied from a GPU and hashed (BLAKE3
alone 3.8e9, measured)."""

SAVED, INTERRUPTED = 2.0, 7 * 86400.0
"""Seconds of a save besides writing, and of work between two interruptions of a training, on average (assumed)."""

SPEEDS: Mapping[Precision, float] = {"fp32": 1.0, "tf32": 8.0, "bf16": 16.0, "bf16-weights": 16.0}
"""How fast a GPU multiplies matrices, in float32 as 1 (A100); ``teraflops`` is at the scale's training precision."""

READ_BYTES = 1e12
"""Bytes of weights a second that generating reads, all of them for every token of a batch (assumed: half an A100's)."""

LINE_BYTES = 200
"""Of one answer's line."""

SIMILARITY_BYTES = 4 * 24
"""Of one number as text, for each of four choices of tokens."""

START = 10.0
"""Seconds that a job without a model takes besides its work: imports (7 s at most, measured), hashes, manifest."""

DOWNLOAD_SPEED, DISK_SPEED = 2e7, 2e8
"""Bytes a second that come over the network, and that a disk reads and writes (both assumed; BLAKE3 takes 3.8e9)."""

WORK: Mapping[str, tuple[float, int]] = {
    "draw": (0.01, 3000),  # an image (1 ms of CPU, measured; ten times that for a busy machine)
    "prepare": (0.0083, 1500),  # a sample's image, read and decoded (8.3 ms, measured on JPEGs of COCO's size)
    "encode": (0.0015, 1600),  # a sample (0.7 ms, measured; twice that), five bytes a token
    "questions": (0.0083, 600),  # an image likewise
    "references": (5e-5, 60),  # a caption (0.13 s for 25,000 in measurements/results.md, ten times that)
    "score": (1.3e-4, 150),  # an answer (5,000 captions take 0.64 s, VQAv2's 214,354 4.6 s: measurements/results.md)
    "report": (30.0, 200_000),  # a table or figure (assumed; a few seconds in the demo)
}
"""Seconds of one core for an item of a stage's work; bytes of its part of the result, as in the demo."""

UNKNOWN_BYTES: Mapping[str, int] = {".zip": 7_000_000_000}
"""Of a file whose size nobody published, by how its name ends (assumed: CC3M's 595,375 images); others have 10^8."""

STARTING, RECOMPUTED, SLOW = "start-up of jobs", "recomputed activations", "TF32 or float32 in place of bf16"
REJECTED, SAVING = "candidates that are not chosen", "saving to resume, and interruptions"
"""Kinds of waste that are predicted; of padding nothing is known before the data are there."""

CHECKPOINT_BYTES = 12
"""Of a number that trains: the weight and AdamW's two moments, in float32."""


def forward_operations(llm: LlmShape, vision: VisionShape, text: int, answers: int) -> tuple[float, float]:
    """Operations of one sample's forward pass: of the LLM, its head at ``answers`` positions; of the vision encoder."""
    tokens = vision.tokens + text
    products = 2 * (llm.parameters - llm.words) * tokens
    seen = 2 * vision.parameters * (vision.tokens + 1)
    return float(products + attention_operations(llm, tokens) + head_operations(llm, answers)), float(seen)


def attention_operations(llm: LlmShape, tokens: int) -> int:
    """Operations of attention in one sample's forward pass: causal, so half of 4 t^2 d a layer."""
    return 2 * llm.layers * tokens * tokens * llm.heads * llm.head_dim


def head_operations(llm: LlmShape, answers: int) -> int:
    """Operations of the head in one sample's forward pass."""
    return 2 * answers * llm.vocabulary * llm.hidden


@cache
def step_operations(job: TrainingJob, text: int, answers: int, *, recompute: bool) -> float:
    """Operations of one sample's forward and backward pass, vision encoder included.

    Attention's backward pass takes 2.5 times its forward pass: five products for two (Dao, 2023). Recomputation is of
    blocks, each up to the last tensor that its backward pass needs: its last product is left out, but for LoRA's, where
    a norm follows, and in the last block, of which all but keys and values is computed at ``answers`` positions.
    """
    llm, tokens = job.llm, job.vision.tokens + text
    forward, seen = forward_operations(llm, job.vision, text, answers)
    model = skeleton(job.llm, job.vision, job.method, job.lora, job.connector)
    block = model.llm.model.layers[-1]
    parts = (block.self_attn.q_proj, block.self_attn.o_proj, block.mlp)
    read = [one for part in parts for one in part.weights if len(one.shape) == 2]
    unread = 2.0 * (tokens - answers)
    connector = [layer.weight for layer in model.connector.layers]
    others = (*connector, model.llm.model.embed_tokens.weight, model.llm.lm_head.weight)
    weights = 2.0 * tokens * sum(one.numel for one in model.trained if len(one.shape) == 2 and one not in others)
    forward += weights if job.lora else 0.0  # they are beside the LLM's own
    forward -= unread * sum(one.numel for one in read)
    weights -= unread * sum(one.numel for one in read if one.trains)
    trained = weights + 2.0 * job.vision.tokens * sum(one.numel * (1 + one.trains) for one in connector)
    trained += 2.0 * job.vision.tokens * sum(one.numel * one.trains for one in connector[1:])
    if model.llm.lm_head.weight.trains:
        trained += head_operations(llm, answers)
    last = 0 if job.lora or llm.family.mlp_norm else 2 * (llm.layers - 1) * llm.intermediate * llm.hidden * tokens
    again = forward - head_operations(llm, answers) - last if recompute else 0.0
    return seen + forward + again + forward + 1.5 * attention_operations(llm, tokens) + trained


def training_seconds(job: TrainingJob, samples: int, format: str, gpu: GpuSettings, given: Passes) -> float:
    """Seconds of all steps on ``job.ranks`` GPUs with so many samples of a format, a key of TEXT_TOKENS.

    All samples are taken for average ones, so either all passes recompute activations or none does.
    """
    text, answers = TEXT_TOKENS[format]
    recompute = given.recompute_above is not None and job.vision.tokens + text > given.recompute_above
    seen = job.schedule.epochs * samples
    if job.schedule.max_steps is not None:
        seen = min(seen, job.schedule.max_steps * job.schedule.global_batch)
    precision, image = job.schedule.precision, forward_operations(job.llm, job.vision, 0, 0)[1]
    language = step_operations(job, text, answers, recompute=recompute) - image
    # Images are seen outside of autocast, by float32 weights.
    spent = image / _speed(job, gpu, "tf32" if precision == "tf32" else "fp32") + language / _speed(job, gpu, precision)
    return seen * spent / job.ranks


def start_up(read: float, hashed: float = 0.0) -> float:
    """Seconds until a job's first step or question: it reads its inputs' files whole, once, then has them in memory.

    A training's checkpoints bear the hash of all its weights: so many bytes are ``hashed``.
    """
    return STARTED + read / STORE_SPEED + hashed / HASH_SPEED


def checkpoint_bytes(job: TrainingJob) -> int:
    """Of one checkpoint."""
    return CHECKPOINT_BYTES * skeleton(job.llm, job.vision, job.method, job.lora, job.connector).trainable


def checkpoint_minutes(job: TrainingJob) -> float:
    """Minutes between checkpoints at which saving and what interruptions lose cost least in all (Young, 1974)."""
    return math.sqrt(2 * (SAVED + checkpoint_bytes(job) / STORE_SPEED) * INTERRUPTED) / 60


def checkpoints(seconds: float, steps: int, given: Execution) -> int:
    """How many checkpoints a training of so many seconds and steps writes."""
    by_time = int(seconds / (60 * given.checkpoint_minutes)) if given.checkpoint_minutes else 0
    return by_time + ((steps - 1) // given.checkpoint_steps if given.checkpoint_steps else 0)


def saving_seconds(seconds: float, written: float, number: int, start: float) -> float:
    """Of ``number`` checkpoints, so many bytes in all, in a training of so many seconds, and of its interruptions.

    Each of these loses half of the time between two checkpoints, and another ``start``.
    """
    return number * SAVED + written / STORE_SPEED + seconds / INTERRUPTED * (seconds / (number + 1) / 2 + start)


def training_waste(job: TrainingJob, samples: int, format: str, gpu: GpuSettings, given: Passes) -> dict[str, float]:
    """Of a training's seconds, those that each kind of waste takes, if it alone were away; kinds overlap."""
    whole = training_seconds(job, samples, format, gpu, given)
    kept = training_seconds(job, samples, format, gpu, given.model_copy(update={"recompute_above": None}))
    faster = SPEEDS["bf16"] / SPEEDS[job.schedule.precision]
    fast_job = replace(job, schedule=job.schedule.model_copy(update={"precision": "bf16"}))
    fast_gpu = gpu.model_copy(update={"teraflops": gpu.teraflops * faster})
    fast = training_seconds(fast_job, samples, format, fast_gpu, given)
    return {RECOMPUTED: whole - kept, SLOW: whole - fast}


def prediction_seconds(
    job: TrainingJob,
    questions: int,
    images: int,
    new_tokens: int,
    batch: int,
    gpu: GpuSettings,
    text: tuple[int, int] = (PROMPT_TOKENS, PREFIX_TOKENS),
    precision: AnswerPrecision = "fp32",
) -> float:
    """Seconds of asking a job's model ``questions``, with at most ``new_tokens`` an answer, on one GPU.

    The questions are about so many ``images``, each of which is seen and read once, with what stands before it.
    ``text`` are a prompt's tokens, and those of them before the image. Without new tokens, it is that of reading.
    Images are seen in float32 whatever the ``precision``.
    """
    prefix, seen = forward_operations(job.llm, job.vision, text[1], 0)
    whole, _ = forward_operations(job.llm, job.vision, text[0], 1)
    reading = (images * prefix + questions * (whole - prefix)) / _speed(job, gpu, precision)
    seeing = images * seen / _speed(job, gpu, "fp32")
    generating = float(ANSWER_BYTES[precision]) * job.llm.parameters / READ_BYTES * new_tokens / batch
    return seeing + reading + questions * generating


def _speed(job: TrainingJob, gpu: GpuSettings, precision: Precision) -> float:
    """Operations a second of one GPU in a precision, from what it does in that of the job's training."""
    teraflops = gpu.teraflops * SPEEDS[precision] / SPEEDS[job.schedule.precision]
    if precision == "fp32" and gpu.fp32_teraflops is not None:
        teraflops = gpu.fp32_teraflops
    return teraflops * 1e12 * gpu.utilisation


def work_taken(work: str, items: int, threads: int = 1) -> tuple[float, int]:
    """Seconds of a job without a model that does so many items of a kind of WORK, and bytes of its result."""
    seconds, size = WORK[work]
    return START + items * seconds / threads, items * size


def copy_seconds(copied: float, downloaded: float = 0.0) -> float:
    """Seconds of a job that reads, hashes and writes so many bytes, some of them from the network."""
    return START + downloaded / DOWNLOAD_SPEED + (copied + downloaded) / DISK_SPEED
