"""predict-other: the answers of somebody else's model to one benchmark's questions, as transformers loads and asks it.

The role ``model`` is a folder in Hugging Face's image-text-to-text form: safetensors, no code of its own. Its processor
makes prompts and pixels (by Pillow, where it has the choice), its generation config says what ends an answer; the
protocol says what is asked, how long an answer may be and how tokens are chosen. In float32 a question that meets a
near-tie is asked again by itself, as in lntune.model.generate, so the batch has no say in the answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lntune.data.samples import Question, read_questions, write_answers
from lntune.errors import UserError
from lntune.stages.asked import AskedSettings, DecodingSettings, Execution, messages, seed_of
from lntune.store.job import Job, Metrics

if TYPE_CHECKING:
    from PIL.Image import Image

PACKAGES = ("torch", "torchvision", "transformers", "tokenizers", "pillow")

NEAR_TIE = 1e-3
"""In logits; rounding in float32 moves them by some 1e-5."""


class Settings(AskedSettings, DecodingSettings):
    """How the model is asked, and from which ``seed`` if tokens are sampled."""

    seed: int | None = None


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write answers.jsonl."""
    from lntune.data.images import ImageArchive
    from lntune.model.device import numerics

    settings = job.settings
    archive, questions = read_questions(job.folder("questions"))
    images = lru_cache(64)(ImageArchive(job.folder("images") / archive).image_or_refuse)
    size = settings.batch_size or (1 if settings.temperature else job.execution.batch_size)
    answers: dict[str, str] = {}
    with numerics(job.execution.threads, "fp32"), job.track(len(questions), "questions") as progress:
        model = OtherModel.load(job.folder("model"), settings)
        for start in range(0, len(questions), size):
            batch = questions[start : start + size]
            found = model.answers(batch, [images(one.image) for one in batch])
            for one, said in zip(batch, found, strict=True):
                answers[one.id] = model.answers([one], [images(one.image)])[0] or "" if said is None else said
                progress.advance()
    write_answers(job.out, answers.items())
    return {"questions": len(questions), "empty_answers": sum(not one for one in answers.values())}


@dataclass(frozen=True)
class OtherModel:
    """A model and its processor, where it computes; ``ends`` are the tokens that end an answer."""

    model: Any
    processor: Any
    settings: Settings
    ends: frozenset[int]

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> "OtherModel":
        """UserError if transformers has no such model, if it needs code of its own, or if a weight is missing."""
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

        from lntune.model.device import device

        dtype = torch.float32 if settings.precision == "fp32" else torch.bfloat16
        own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            processor: Any = AutoProcessor.from_pretrained(folder, backend="pil", **own)
            model: Any
            model, loaded = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **own
            )
        except Exception as error:  # whatever transformers comes upon in files of all kinds
            what = " ".join(str(error).split())[:300]
            raise UserError(f"{folder}: transformers cannot load an image-text-to-text model from it: {what}") from None
        if lost := sorted(map(str, [*loaded["missing_keys"], *loaded["mismatched_keys"]])):
            raise UserError(f"{folder}: its weights lack {lost[0]}, and {len(lost)} in all; get all of its files")
        if getattr(processor, "chat_template", None) is None:
            raise UserError(f"{folder}: its processor has no chat template (chat_template.jinja); get all of its files")
        tokenizer, before = processor.tokenizer, model.generation_config
        tokenizer.padding_side = "left"
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        said = tokenizer.eos_token_id if before.eos_token_id is None else before.eos_token_id
        ends = [] if said is None else [said] if isinstance(said, int) else [*said]
        sampled = {"temperature": settings.temperature, "top_k": settings.top_k or 0, "top_p": 1.0}
        model.generation_config = GenerationConfig(
            max_new_tokens=settings.prompting.max_new_tokens, min_new_tokens=settings.min_new_tokens or None,
            do_sample=settings.temperature > 0, num_beams=1, repetition_penalty=1.0, eos_token_id=ends or None,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=before.bos_token_id, stop_strings=before.stop_strings,
            return_dict_in_generate=True, output_scores=True, **(sampled if settings.temperature else {}),
        )  # fmt: skip
        return cls(model.eval().to(device()), processor, settings, frozenset(ends))

    def answers(self, questions: Sequence[Question], images: "Sequence[Image]") -> list[str | None]:
        """The answer to each question about its image; None of one in a batch that met a near-tie."""
        import torch

        if self.settings.seed is not None:  # then questions come one by one
            torch.manual_seed(seed_of(questions[0], self.settings.seed))
        asked = [messages(self.settings.turns(one), image) for one, image in zip(questions, images, strict=True)]
        given = self.processor.apply_chat_template(
            asked, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True,
            processor_kwargs={"padding": True},
        ).to(self.model.device, self.model.dtype)  # fmt: skip
        with torch.no_grad():
            made = self.model.generate(**given, tokenizer=self.processor.tokenizer)
        tokens = made.sequences[:, given["input_ids"].shape[1] :].tolist()
        best = torch.stack(made.scores).topk(2, dim=2).values  # (tokens, questions, 2)
        margins = (best[..., 0] - best[..., 1]).T.tolist()
        return [self._text(*one, alone=len(questions) == 1) for one in zip(tokens, margins, strict=True)]

    def _text(self, tokens: Sequence[int], margins: Sequence[float], *, alone: bool) -> str | None:
        """The answer that tokens say, up to its end; None if one of them was nearly another."""
        until = next((place for place, token in enumerate(tokens) if token in self.ends), len(tokens))
        close = NEAR_TIE if self.settings.precision == "fp32" else 0.0
        if not alone and min(margins[: until + 1]) < close:
            return None
        text = str(self.processor.tokenizer.decode(tokens[:until], skip_special_tokens=True))
        for stop in self.model.generation_config.stop_strings or ():
            text = text.partition(stop)[0]
        return text.strip()
