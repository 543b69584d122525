"""Whether greedy answers depend on how many are made at once, and how fast they come."""

import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from gpu_suite.made_up import FIRST_WORD, Shape, build, jpegs, loader, made_up_tokenizer
from lntune.model.device import numerics
from lntune.model.encode import IMAGE_ID
from lntune.model.features import EncodedImages
from lntune.model.generate import Prompt, generate
from lntune.training.trial import peak_bytes, restart_peak

BATCHES = (1, 8, 32)


class InPrecision:
    """Features in the precision of the weights that read them."""

    def __init__(self, source: EncodedImages, dtype: torch.dtype) -> None:
        self.source, self.dtype = source, dtype

    def features(self, indices: Sequence[int]) -> Tensor:
        """Features (B, T, W)."""
        return self.source.features(indices).to(self.dtype)

    def prefetch(self, indices: Sequence[int]) -> None:
        """As the source does."""
        self.source.prefetch(indices)


def batches_of_answers(found: dict[str, Any], shape: Shape, precision: Literal["fp32", "bf16-weights"]) -> None:
    """The same questions in batches of 1, 8 and 32, by weights of this precision; products are never in TF32."""
    model = build(shape, "layernorm-simp", precision).eval()
    prompts = made_up_prompts(shape)
    images = len({prompt.image for prompt in prompts})
    source = EncodedImages(model.vision, loader(model.vision, jpegs(images)), images, cache=True)
    features = InPrecision(source, next(model.connector.parameters()).dtype)
    tokenizer = made_up_tokenizer(shape.llm.vocabulary)
    alone: list[str] = []
    found |= {"precision": precision, "questions": len(prompts), "batches": {}}
    with numerics(torch.get_num_threads(), "fp32"):
        source.features(range(images))
        for batch in BATCHES:
            restart_peak()
            started = time.perf_counter()
            answers = generate(
                model, tokenizer, prompts, features, max_new_tokens=shape.new_tokens, stop="###", batch_size=batch
            )
            seconds = time.perf_counter() - started
            alone = alone or answers
            equal = sum(one == other for one, other in zip(answers, alone, strict=True)) / len(prompts)
            found["batches"][str(batch)] = {"seconds": seconds, "equal": equal, "peak_bytes": peak_bytes()}
    found["distinct"] = len(set(alone))
    found["answers"] = alone


def made_up_prompts(shape: Shape) -> list[Prompt]:
    """Questions of different lengths, two about each image."""
    words = shape.llm.vocabulary - FIRST_WORD
    prompts = []
    for number in range(shape.questions):
        before, length = [1, *range(FIRST_WORD, FIRST_WORD + 10)], shape.text // 8 + number % 8
        text = [FIRST_WORD + (number * 31 + 7 * place) % words for place in range(length)]
        prompts.append(Prompt([*before, IMAGE_ID, *text], number // 2))
    return prompts
