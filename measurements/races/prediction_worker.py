"""Asks a multi-modal model, as LLaVA's evaluation does or as lntune does.

    python prediction_worker.py LLM VISION JOB

LLM and VISION are folders of weights; the encoder gives its shape and is not asked. JOB is a
:class:`races.image_questions.ImageQuestions` as JSON. A request is ``{"side": "rival"}`` or ``{"side": "ours"}``; the
answer holds the seconds that asking took, and all answers.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lntune.model.device import numerics
from lntune.model.encode import encode_prompt
from lntune.model.generate import Prompt, generate
from lntune.model.llm import load_tokenizer
from lntune.model.multimodal import MultimodalModel, assemble
from lntune.model.prompts import Rendered, Turn, render_prompt, stop_string
from races.image_questions import ImageQuestions
from races.workers import serve

SEED = 0


class StoredFeatures:
    """Features given as one tensor (images, T, W)."""

    def __init__(self, stored: torch.Tensor) -> None:
        self.stored = stored

    def features(self, indices: Sequence[int]) -> torch.Tensor:
        """The rows (B, T, W) at these indices."""
        return self.stored.index_select(0, torch.tensor(indices, device=self.stored.device))

    def prefetch(self, indices: Sequence[int]) -> None:
        """Do nothing: they are there."""


class Prompting:
    """A model with an untrained connector, random features, and questions about them."""

    def __init__(self, llm: Path, vision: Path, job: ImageQuestions) -> None:
        self.job, self.tokenizer = job, load_tokenizer(llm)
        self.model: MultimodalModel = assemble(llm, vision, "open_clip", seed=SEED).eval()
        drawn = torch.Generator().manual_seed(SEED)
        width = self.model.vision.width
        self.features = StoredFeatures(torch.randn(job.images, job.image_tokens, width, generator=drawn))
        self.prompts = [
            Prompt(encode_prompt(self.tokenizer, self.text(question)), image) for image, question in job.asked
        ]

    def text(self, question: str) -> Rendered:
        """A prompt in the job's template."""
        return render_prompt(self.job.template, [Turn("user", "<image>\n" + question)], system="")

    @torch.no_grad()
    def rival(self) -> list[str]:
        """One question after the other, by transformers' generate()."""
        answers, stop = [], stop_string(self.job.template)
        for prompt in self.prompts:
            assert prompt.image is not None
            embedded, _ = self.model.embed([prompt.ids], self.features.features([prompt.image]))
            tokens = self.model.llm.generate(
                inputs_embeds=embedded, attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
                do_sample=False, max_new_tokens=self.job.max_new_tokens, use_cache=True,
                eos_token_id=self.tokenizer.eos_token_id, pad_token_id=self.tokenizer.eos_token_id,
            )  # fmt: skip
            text = self.tokenizer.decode(tokens[0], skip_special_tokens=True)
            answers.append(text.partition(stop)[0].strip())
        return answers

    def ours(self) -> list[str]:
        """All questions at once, by lntune."""
        return generate(
            self.model, self.tokenizer, self.prompts, self.features, max_new_tokens=self.job.max_new_tokens,
            stop=stop_string(self.job.template), batch_size=self.job.batch_size,
        )  # fmt: skip

    def round(self, side: str) -> dict[str, object]:
        """One side's seconds and answers."""
        ask = {"rival": self.rival, "ours": self.ours}[side]
        with numerics(1, "fp32"):
            started = time.perf_counter()
            answers = ask()
            seconds = time.perf_counter() - started
        return {"seconds": seconds, "answers": answers, **self.sizes(answers)}

    def sizes(self, answers: list[str]) -> dict[str, object]:
        """Tokens of each prompt's text and of each answer, and of all prompts where each image is read once."""
        prefixes = {(prompt.image, prompt.prefix()) for prompt in self.prompts}
        rests = sum(len(prompt.rest()) for prompt in self.prompts)
        return {
            "prompt_tokens": [len(prompt.ids) - 1 for prompt in self.prompts],
            "answer_tokens": [len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in answers],
            "read_tokens": sum(len(ids) - 1 + self.job.image_tokens for _, ids in prefixes) + rests,
        }


if __name__ == "__main__":
    prompting = Prompting(Path(sys.argv[1]), Path(sys.argv[2]), ImageQuestions.model_validate_json(sys.argv[3]))
    serve(prompting.round)
