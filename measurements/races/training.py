"""Finetuning, beside Hugging Face's Trainer with PEFT; about 15 minutes.

Both sides train the same LLM in float32 on one thread, with the same samples, global batch, learning rate, clipping at
1.0 and AdamW. The samples are text alone, of 20 to 200 tokens drawn evenly; an answer takes the last quarter to three
quarters of one. An epoch has some thousand of them, each side's own sampler makes its batches, and a round takes eight
of those (SmolLM2: the one in the middle), at equal distances in the order of their numbers of tokens: so a round has
the padding of a whole epoch. Ours
are :func:`lntune.training.loop.do_step` with the multi-modal model and the recorder of norm gradients. The connector
sees no image and has next to nothing to do; in the LLM the same parameters train on both sides.
"""

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from races.mixed_lengths import Race
from races.rounds import Contestant, Row, Say, in_turn
from races.smollm2 import smollm2_folder
from races.workers import Worker

VERSIONS = ("torch", "transformers", "peft", "accelerate")

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE.parents[1] / "workflow" / "weights"
DEMO, VISION = WEIGHTS / "vicuna-7b", WEIGHTS / "clip"

METHODS = ("finetune", "lora", "attn-qv", "attn-mlp", "layernorm", "layernorm-simp")
"""Table 1's."""

SIMPLE = "layernorm-simp"

DEFAULT, GROUPED = "random", "group_by_length"
"""What ``train_sampling_strategy`` is by default, and the one that spares padding."""

ANSWERED = 0.5
"""The share of tokens that are an answer's, on average (:func:`races.mixed_lengths.draw`)."""

TOLERANCE = 1e-5
"""Relative, of the loss and of the gradients' norm of the same samples."""


NOTE = """\
Text alone, 20 to 200 tokens a sample, half of them an answer's; float32 on one thread; 32 samples a step and 8 steps a
round for the demo's LLM, 8 samples and one step for SmolLM2, drawn from a whole epoch of each side's own sampler.

Both sides compute the same products in the same kernels, so only what one leaves out can make it faster: positions of
padding, and the head and the last block, but for keys and values, where no answer is predicted. Grouped by length the
Trainer leaves out as much padding as ours. The demo's LLM has 202 words, so its head is 4% of its products; SmolLM2's,
with 49,152, is 21%.

Tried besides, one after the other on the same machine, and left out because it gained nothing that could be told from
noise: norms, rotary embedding and the MLP's gate as one function each, in blocks that fit the cache (bit-equal; 0.80 s
a round against 0.81 s on the demo's LLM, 5.3 s against 5.3 s on SmolLM2); attention by plain products instead of the
fused kernel (slower but for the shortest samples); micro-batches of 16, 8 and 4 samples instead of 32 (55 to 72
microseconds a token against 55 to 64); memory that is freed kept for the next step. Packed batches were not tried: of
the positions that ours compute 2.8% (SmolLM2: 2.4%) are padding, more they could not save."""


def rows(work: Path, say: Say) -> list[Row]:
    """Train the demo's LLM and SmolLM2-135M, by every method."""
    demo = Race(llm=DEMO, vocabulary=202, pool=6400, global_batch=32, steps=8, learning_rate=1e-4, lora_rank=8)
    smollm2 = Race(
        llm=smollm2_folder(work), vocabulary=49152, pool=1600, global_batch=8, steps=1, learning_rate=1e-5, lora_rank=64
    )
    return [*llm_rows(demo, "the demo's LLM", say), *llm_rows(smollm2, "SmolLM2-135M", say)]


def llm_rows(race: Race, llm: str, say: Say, methods: tuple[str, ...] = METHODS) -> list[Row]:
    """The rows of one LLM. Both sides stay loaded, and go on from round to round."""
    told, found = race.model_dump_json(), []
    with ExitStack() as entered:
        ours = entered.enter_context(Worker(HERE / "lntune_worker.py", told, str(VISION)))
        theirs = entered.enter_context(Worker(HERE / "trainer_worker.py", told, str(DEMO)))
        for method in methods:
            start = ours(task="prepare", method=method)
            equal = same_start(theirs(task="prepare", method=method), start)
            name = f"{method}, {llm}"
            adapters = {"layernorm-simp": " and PEFT's LNTuning", "lora": " and PEFT's LoRA"}.get(method, "")
            pairs = [(GROUPED, ", grouped by length", 1.4 if method == SIMPLE else 1.3)]
            if method == SIMPLE:
                pairs.insert(0, (DEFAULT, "", 2.5))
            for strategy, manner, target in pairs:
                rounds = in_turn(f"{name}{manner}", trainer_round(theirs, strategy), our_round(ours), say)
                spent = theirs(task="profile", strategy=strategy), ours(task="profile")
                comparison = Comparison(theirs=spent[0], ours=spent[1], start=start)
                found.append(
                    Row(
                        work=name, rival=f"`Trainer`{adapters}{manner}", unit="tokens/s", target=target, equal=equal,
                        limit=f"{comparison.limit():.2f}, by products of weights", reason=comparison.reason(),
                        profile=comparison.table(name), **rounds,
                    )
                )  # fmt: skip
    return found


@dataclass(frozen=True)
class Comparison:
    """A profiled round of each side, and what ours told when it was prepared."""

    theirs: Mapping[str, Any]
    ours: Mapping[str, Any]
    start: Mapping[str, Any]

    def padding(self) -> float:
        """How many times as many positions the rival computes for a token that is no padding."""
        return float(self.theirs["padded"] / self.theirs["tokens"] / (self.ours["padded"] / self.ours["tokens"]))

    def limit(self) -> float:
        """How many times fewer products of weights ours take: padding; head and last block where no answer comes.

        A weight is multiplied with for the output, for the input's gradient, and once more if it trains.
        """
        blocks, head = self.start["blocks"], self.start["head"]
        trained = max(0, self.start["trainable"] - self.start["tables"]) / blocks
        of_blocks, of_last = (one * (2 + min(1.0, trained)) for one in (blocks, self.start["last"]))
        of_head = head * (3 if self.start["trainable"] >= head else 2)
        ours = of_blocks - (1 - ANSWERED) * of_last + ANSWERED * of_head
        return float(self.padding() * (of_blocks + of_head) / ours)

    def reason(self) -> str:
        """Why there is no more to gain."""
        theirs, ours = (side["spent"] for side in (self.theirs, self.ours))
        least = sum(ours[kind] for kind in ("matrix products", "attention"))
        return (
            "Products and attention are PyTorch's own on both sides, in float32 on one thread. Of the products of"
            f" weights the rival takes {self.limit():.2f} times as many as ours ({self.padding():.2f} times for its"
            " padding, the rest for the head and the last block); softmax over the vocabulary and attention to padding"
            " come on top, and there is nothing else that it need not do. In the profiled rounds ours spent"
            f" {least:.0f} of {sum(ours.values()):.0f} microseconds a token on products and attention, the rival"
            f" {sum(theirs.values()):.0f} in all."
        )

    def table(self, name: str) -> tuple[str, ...]:
        """What the time went to."""
        theirs, ours = (side["spent"] for side in (self.theirs, self.ours))
        return (
            f"| microseconds a token in a profiled round, {name} | rival | ours |",
            "| --- | --- | --- |",
            *(f"| {kind} | {theirs[kind]:.1f} | {ours[kind]:.1f} |" for kind in theirs),
        )


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
