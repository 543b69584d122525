"""train-llm: one of the demo's LLMs, pretrained on text alone, or a base one tuned further on dialogue.

The weights are written as float16, as LLaMA's are. ``examination.json`` says what it can do without images. The
tokenizer knows the whole words of a closed vocabulary.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from lntune.config import Frozen
from lntune.config.protocol import TemplateName
from lntune.model.prompts import IMAGE, TEMPLATES, Turn, render
from lntune.store.job import Job, Metrics
from lntune.world import corpus, language
from lntune.world.scenes import CATEGORIES

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

PACKAGES = ("torch", "transformers", "tokenizers", "numpy")

IGNORE = -100
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
_PIECES = r"\n|\w+|#+|[^\w\s#]"
_LONGEST = 512
"""Tokens that a model can read."""

Row = tuple[list[int], list[int]]
"""Token ids and labels of a document."""


class Shape(Frozen):
    """A LLaMA's size."""

    width: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    intermediate: int = Field(ge=8)


class Course(Frozen):
    """What models share that are trained alike: batch, peak learning rates, and how many questions examine them.

    Matrices of the blocks are trained with Muon, everything else with AdamW. ``embedding_std`` is the spread of a
    new model's word embeddings, about that of the image tokens that a connector will add.
    """

    batch: int = Field(ge=1)
    muon_learning_rate: float = Field(gt=0)
    adam_learning_rate: float = Field(gt=0)
    embedding_std: float = Field(gt=0)
    questions: int = Field(ge=1)


class Settings(Course):
    """A course, the size (None: the base model's), steps, and the templates that it talks in."""

    shape: Shape | None
    steps: int = Field(ge=1)
    templates: tuple[TemplateName, ...] = Field(min_length=1, strict=False)
    texts: tuple[str, ...] = Field(strict=False, description="words that the tokenizer must know beside the world's")
    seed: int


class Execution(Frozen):
    """CPU threads."""

    threads: int = Field(ge=1)


def encode(tokenizer: "PreTrainedTokenizerFast", documents: list[corpus.Document]) -> list[Row]:
    """Token ids and labels of each document, the start token first."""
    batch = tokenizer([d.text for d in documents], add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for document, ids, offsets in zip(documents, batch["input_ids"], batch["offset_mapping"], strict=True):
        inside = [any(a <= start and end <= b for a, b in document.answers) for start, end in offsets]
        labels = [token if learned else IGNORE for token, learned in zip(ids, inside, strict=True)]
        found.append(([tokenizer.bos_token_id, *ids], [IGNORE, *labels]))
    return found


def padded(rows: list[Row]) -> "tuple[Tensor, Tensor]":
    """Ids and labels, (rows, longest), padded on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True)
    return ids, pad_sequence([torch.tensor(labels) for _, labels in rows], batch_first=True, padding_value=IGNORE)


def answer_logits(model: "LlamaForCausalLM", ids: "Tensor", labels: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
    """Logits where the next token is an answer's, those tokens, and the row that each belongs to."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    learned = labels[:, 1:] != IGNORE
    rows = learned.nonzero()[:, 0]
    return model.lm_head(hidden[learned]), labels[:, 1:][learned], rows


def examine(model: "LlamaForCausalLM", tokenizer: Any, settings: Settings, words: frozenset[str]) -> dict[str, float]:
    """Percent of test questions answered rightly, by skill; a caption is right if it names the right things."""
    import torch

    rng = np.random.default_rng(10_000 + settings.seed)
    naming = torch.tensor(sorted(tokenizer.convert_tokens_to_ids(sorted(words))))
    model.eval()
    found = {}
    for skill in corpus.SKILLS:
        documents = [corpus.examination(skill, rng, settings.templates[0]) for _ in range(settings.questions)]
        with torch.no_grad():
            logits, wanted, rows = answer_logits(model, *padded(encode(tokenizer, documents)))
        wrong = logits.argmax(-1) != wanted
        if skill == "caption":
            wrong &= torch.isin(wanted, naming)
        failed = torch.zeros(len(documents), dtype=torch.bool).index_put_((rows[wrong],), torch.tensor(True))
        found[skill] = 100.0 - 100.0 * failed.float().mean().item()
    model.train()
    return found  # type: ignore[return-value]


def _model(job: Job[Settings, Execution], size: int) -> "LlamaForCausalLM":
    import torch
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    from lntune.model.llm import load_llm

    shape = job.settings.shape
    if shape is None:
        return load_llm(job.folder("base"))
    config = LlamaConfig(
        vocab_size=size, hidden_size=shape.width, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.heads,
        max_position_embeddings=_LONGEST, rms_norm_eps=1e-5, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, attn_implementation="sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0.0, job.settings.embedding_std)
    return model


def _optimizers(model: "LlamaForCausalLM", settings: Settings) -> list[Any]:
    import torch

    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = set(matrices)
    others = [p for p in model.parameters() if p not in chosen]
    return [
        torch.optim.Muon(matrices, lr=settings.muon_learning_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=settings.adam_learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _pace(step: int, steps: int) -> float:
    """A short warmup, a plateau, and a straight line to zero over the last two fifths."""
    return min(1.0, (step + 1) / min(50, steps)) * min(1.0, (steps - step) / (0.4 * steps))


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write an LLM's folder: config.json, model.safetensors, tokenizer files; metrics.jsonl and examination.json."""
    import torch

    from lntune.model.llm import load_tokenizer

    settings = job.settings
    torch.set_num_threads(job.execution.threads)
    torch.manual_seed(settings.seed)
    spoken = [render(name, [Turn("user", IMAGE), Turn("assistant", "yes")]).text for name in TEMPLATES]
    size = save_tokenizer(job.out, [*language.vocabulary(), *spoken, *settings.texts])
    tokenizer = load_tokenizer(job.out)
    model = _model(job, size).train()
    optimizers = _optimizers(model, settings)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    rng = np.random.default_rng(settings.seed)
    blocks: list[list[Row]] = []
    lines = []
    with job.track(settings.steps, "steps") as progress:
        for step in range(settings.steps):
            if not blocks:  # four batches at a time, sorted by length so that little is padded
                part = step / settings.steps if settings.shape else 1.0
                documents = [
                    corpus.curriculum_document(rng, part, settings.templates) for _ in range(4 * settings.batch)
                ]
                rows = sorted(encode(tokenizer, documents), key=lambda row: len(row[0]))
                blocks = [rows[k * settings.batch : (k + 1) * settings.batch] for k in rng.permutation(4)]
            for group, peak in zip(groups, peaks, strict=True):
                group["lr"] = peak * _pace(step, settings.steps)
            logits, wanted, _ = answer_logits(model, *padded(blocks.pop()))
            loss = torch.nn.functional.cross_entropy(logits, wanted)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            value = loss.item()
            assert math.isfinite(value), f"the loss is {value} at step {step + 1}"
            lines.append(json.dumps({"step": step + 1, "loss": round(value, 6)}) + "\n")
            progress.advance(1, loss=value)
    model.half().float()  # what is examined is what is kept
    examination = examine(model, tokenizer, settings, frozenset(CATEGORIES))
    model.half().save_pretrained(job.out, safe_serialization=True)
    (job.out / "generation_config.json").unlink(missing_ok=True)
    (job.out / "metrics.jsonl").write_text("".join(lines))
    (job.out / "examination.json").write_text(json.dumps(examination, indent=1) + "\n")
    return {"parameters": sum(p.numel() for p in model.parameters()), **examination}


def save_tokenizer(folder: Path, texts: Iterable[str]) -> int:
    """Write tokenizer.json and tokenizer_config.json for every word in ``texts``; return the vocabulary's size.

    Words are lower-cased; a mark is a token of its own, ``###`` is one, and so is a line's end, which ends a caption
    in the plain template.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    split = pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text.lower())}
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, "\n", *sorted(words - {"\n"})])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
        "unk_token": "<unk>", "model_max_length": _LONGEST,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return len(vocabulary)
