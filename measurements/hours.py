"""The terms of the duration model on this machine's CPU: predicted from operations, and measured, in one run.

    python measurements/hours.py [SHAPE ...]          writes measurements/hours.md; 15 minutes on two idle cores

A term's prediction is its operations by lntune.estimate.hours, over the speed of a plain matrix product of its own
sizes. Both are measured REPEATS times in turn; the median of their ratios counts, since the machine's speed changes
from second to second. What is generated and loaded is predicted from bytes instead, over the speed of a matrix-vector
product and of reading a file. Of steps, what one takes beyond another is told as a term of its own. On a machine that
has nothing else to do.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from lntune.config.llm_shape import LlmShape
from lntune.config.training import Schedule
from lntune.estimate.hours import attention_operations, forward_operations, head_operations, step_operations
from lntune.estimate.jobs import TrainingJob
from lntune.estimate.memory import Setup
from lntune.estimate.shapes import VisionShape
from lntune.estimate.training_step import build_model, made_up_samples
from lntune.model.llm import load_llm
from lntune.store.record import machine
from lntune.training.loop import set_recomputation, training_mode

PAGE = Path(__file__).with_suffix(".md")
VISION = VisionShape(width=512, intermediate=2048, layers=8, image=224, patch=14, pre_norm=True)
SCHEDULE = Schedule(epochs=1, global_batch=1, warmup_ratio=0, weight_decay=0, max_length=600, precision="fp32")
TEXT, ANSWERS, REPEATS, BOUND = 260, 180, 5, 0.15
LEAST = 0.2
"""Seconds that one measurement takes at least."""


def _llama(hidden: int, layers: int, vocabulary: int, kv_heads: int = 0) -> LlmShape:
    heads = hidden // 64
    return LlmShape(
        hidden=hidden, intermediate=hidden * 11 // 4, layers=layers, heads=heads, kv_heads=kv_heads or heads,
        head_dim=64, vocabulary=vocabulary,
    )  # fmt: skip


SHAPES = {
    "wide": _llama(1024, 8, 16000),
    "wider": _llama(1536, 6, 32000),
    "large": _llama(2048, 4, 32000),
    "shared": _llama(2048, 4, 32000, kv_heads=8),
    "larger": _llama(3072, 2, 32000),
    "two blocks of 7B": _llama(4096, 2, 32000),
}


Work = Callable[[], object]


def seconds(work: Work) -> float:
    """What it takes."""
    started, times = time.perf_counter(), 0
    while time.perf_counter() < started + LEAST:
        work()
        times += 1
    return (time.perf_counter() - started) / times


def in_turn(known: Work, work: Work) -> tuple[float, float]:
    """The seconds of what is known and of some work, done in turn once they are warm; the work's by their ratios."""
    seconds(work)
    before, pairs = seconds(known), list[tuple[float, float]]()
    for _ in range(REPEATS):
        taken, after = seconds(work), seconds(known)
        pairs.append(((before + after) / 2, taken))
        before = after
    usual = median(one for one, _ in pairs)
    return usual, usual * median(taken / one for one, taken in pairs)


def terms(llm: LlmShape) -> Iterator[tuple[str, float, float]]:
    """Each term, its predicted and its measured seconds."""
    tokens = VISION.tokens + TEXT
    of_blocks = torch.randn(tokens, llm.hidden), torch.randn(llm.intermediate, llm.hidden)
    of_vision = torch.randn(VISION.tokens, VISION.width), torch.randn(VISION.intermediate, VISION.width)
    known: dict[str, tuple[float, float]] = {}

    def term(
        name: str, operations: float, work: Work, of: tuple[Tensor, Tensor] = of_blocks
    ) -> tuple[str, float, float]:
        """Its predicted and its measured seconds, by the speed of the product of a left side and weights."""
        left, weights = of
        product, taken = in_turn(lambda: left @ weights.T, work)
        known[name] = operations * product / (2 * left.shape[0] * weights.numel()), taken
        return name, *known[name]

    def beyond(name: str, one: str, other: str) -> tuple[str, float, float]:
        (predicted, measured), (less, lower) = known[one], known[other]
        return name, predicted - less, measured - lower

    def model_of(method: str) -> tuple[TrainingJob, Setup]:
        setup = Setup(
            llm=llm, vision=VISION, method=method, lora=None, precision="fp32", checkpointing=True, engine="plain",
            device="cpu", micro_batch=1, length=tokens, answer_tokens=ANSWERS,
        )  # fmt: skip
        return TrainingJob("it", "finetune", llm, VISION, method, None, SCHEDULE, "plain", 1, 0), setup

    forward, seen = forward_operations(llm, VISION, TEXT, ANSWERS)
    job, setup = model_of("layernorm-simp")
    model = build_model(setup, attention="sdpa")
    pixels, samples = torch.randn(1, 3, VISION.image, VISION.image), made_up_samples(setup, VISION.tokens)
    query, key, value = (torch.randn(1, llm.heads, tokens, llm.head_dim) for _ in range(3))
    states, head = torch.randn(ANSWERS, llm.hidden), model.llm.lm_head.weight
    with torch.no_grad():
        yield term("vision encoder", seen, lambda: model.vision.encode(pixels), of_vision)
        features = model.vision.encode(pixels)
        squares = attention_operations(llm, tokens) / llm.layers
        product, taken = in_turn(
            lambda: (query @ key.transpose(2, 3)) @ value,
            lambda: F.scaled_dot_product_attention(query, key, value, is_causal=True),
        )
        squares *= 2  # on a CPU, torch's kernel computes the half that causal attention leaves out, too
        yield "attention", squares * product / (4 * llm.hidden * tokens**2), taken
        yield term("head", head_operations(llm, ANSWERS), lambda: F.linear(states, head), (states, head))
        yield term("forward", forward, lambda: model(samples, features, ANSWERS))

    def step() -> None:
        model(samples, features, ANSWERS).backward()
        model.zero_grad()

    def whole(given: TrainingJob, *, recompute: bool) -> float:
        return step_operations(given, TEXT, ANSWERS, recompute=recompute) - seen

    for recompute, name in ((False, "step, norms train"), (True, "step, recomputed")):
        with training_mode(model, recompute=True):
            set_recomputation(model, recompute)
            yield term(name, whole(job, recompute=recompute), step)
    job, setup = model_of("finetune")
    model = build_model(setup, attention="sdpa")
    with training_mode(model, recompute=False):
        yield term("step, all trains", whole(job, recompute=False), step)
    yield beyond("backward", "step, norms train", "forward")
    yield beyond("recomputation", "step, recomputed", "step, norms train")
    yield beyond("gradients of weights", "step, all trains", "step, norms train")
    vector, token, wide = torch.randn(llm.hidden), torch.tensor([[5]]), torch.randn(8 * llm.intermediate, llm.hidden)
    with torch.no_grad():
        read, taken = in_turn(lambda: wide @ vector, lambda: model.llm(token))
        yield "a token generated", 4 * llm.parameters * read / wide.nbytes, taken
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.llm.half().save_pretrained(folder)
        file, plain = folder / "model.safetensors", folder / "plain"
        save_file({key: value.clone() for key, value in load_file(file).items()}, plain)
        plainly = lambda: {key: value.float() for key, value in load_file(plain).items()}  # noqa: E731
        read, taken = in_turn(plainly, lambda: load_llm(folder))
        yield "weights loaded", read, taken


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--out", type=Path, default=PAGE)
    given, rows, here = parser.parse_args(), [], machine(ranks=1)
    for name in given.shapes or SHAPES:
        for term, predicted, measured in terms(SHAPES[name]):
            off = measured / predicted - 1
            mark = "" if abs(off) <= BOUND else " (!)"
            rows.append(f"| {name} | {term} | {1e3 * predicted:,.1f} | {1e3 * measured:,.1f} | {off:+.0%}{mark} |")
            print(rows[-1], flush=True)
    head = ["| shape | term | predicted, ms | measured, ms | off |", "| --- | --- | --: | --: | --: |"]
    about = f"`python measurements/hours.py` on {here.cpu}, {here.cores} cores; beyond {BOUND:.0%}: (!)"
    given.out.write_text("\n".join(["# Durations: predicted and measured on a CPU", "", about, "", *head, *rows, ""]))


if __name__ == "__main__":
    main()
