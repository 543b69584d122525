"""train-llm: one of the demo's LLMs, pretrained on text alone, or a base one tuned further on dialogue.

docs/demo.md says what it reads, in which order (:data:`CURRICULUM`), and why. The weights are written as float16, as
LLaMA's are. ``examination.json`` says what it can do without images.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from lntune.config import Frozen
from lntune.config.protocol import TemplateName
from lntune.model.prompts import IMAGE, TEMPLATES, Turn, render, stop_string
from lntune.store.job import Job, Metrics
from lntune.world import language
from lntune.world.scenes import CATEGORIES, COLOURS, Scene, Split, scenes

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


# --- what is read ---------------------------------------------------------------------------------------------------

COLOURED = 0.4
"""Share of documents whose scene is written with colours."""


@dataclass(frozen=True)
class Document:
    """A text and the character spans of it that the model is to learn to say."""

    text: str
    answers: tuple[tuple[int, int], ...]


def _described(scene: Scene, *, coloured: bool) -> str:
    """The scene in words: nine cells, row by row, things with their colours or without."""
    words = scene.words()
    if coloured:
        for thing in scene.things:
            words[thing.cell] = f"{thing.colour} {thing.category}"
    return " ".join(words)


def any_scene(rng: np.random.Generator, split: Split) -> Scene:
    """A random scene of a split."""
    return next(scenes(rng, split, 1))


def _listed(scene: Scene, rng: np.random.Generator, pairs: Sequence[tuple[str, str]]) -> Document:
    """A scene, then pairs of question and answer; the answers are learned."""
    text, answers = _described(scene, coloured=bool(rng.random() < COLOURED)) + "\n", []
    for asked, answer in pairs:
        text += f"{asked} "
        answers.append((len(text), len(text) + len(answer)))
        text += f"{answer} "
    return Document(text, tuple(answers))


def _checklist(scene: Scene, rng: np.random.Generator) -> Document:
    """A scene, then many categories in random order, each followed by yes or no."""
    names = [str(name) for name in rng.permutation(list(CATEGORIES))[:16]]
    for name in scene.categories:
        if name not in names:
            names[int(rng.integers(len(names)))] = name
    return _listed(scene, rng, [(name, "yes" if name in scene.categories else "no") for name in names])


def _short_questions(scene: Scene, rng: np.random.Generator) -> Document:
    """A scene, then short questions with the answer right behind each."""
    asked = [language.any_existence(scene, rng) for _ in range(9)]
    return _listed(scene, rng, [(one.text, one.answer) for one in asked])


def _yes_no(scene: Scene, rng: np.random.Generator) -> language.Exchange:
    if rng.random() < 0.5:
        asked = language.any_existence(scene, rng)
        return (f"{asked.text} {language.YES_NO}", asked.answer) if rng.random() < 0.6 else (asked.text, asked.sentence)
    return language.mme_exchange(scene, rng)


def _needs_colour(exchange: language.Exchange) -> bool:
    """Whether an exchange speaks of colours, which a scene written without them leaves open."""
    words = f"{exchange[0]} {exchange[1]}".split()
    return "color" in words or any(colour in words for colour in COLOURS)


def _exchanges(scene: Scene, rng: np.random.Generator) -> list[language.Exchange]:
    match rng.choice(5, p=(0.35, 0.25, 0.08, 0.08, 0.24)):
        case 0:
            return [_yes_no(scene, rng) for _ in range(8)]
        case 1:
            return [language.caption_exchange(scene, rng)]
        case 2:
            return language.detail(scene, rng)
        case 3:
            return language.reasoning(scene, rng)
    return language.conversation(scene, rng, 7)


def _document(scene: Scene, exchanges: Sequence[language.Exchange], template: str, *, coloured: bool) -> Document:
    """Exchanges about a scene written in words, rendered with a prompt template without its system sentence."""
    turns = []
    for number, (asked, answer) in enumerate(exchanges):
        front = f"{_described(scene, coloured=coloured)}\n" if number == 0 else ""
        turns += [Turn("user", front + asked), Turn("assistant", answer)]
    rendered = render(template, turns, system="")
    return Document(rendered.text, tuple(rendered.answers))


def _talk(rng: np.random.Generator, template: str) -> Document:
    """A conversation about a scene written in words."""
    while True:
        scene = any_scene(rng, "train")
        coloured = bool(rng.random() < COLOURED)
        exchanges = [e for e in _exchanges(scene, rng) if coloured or not _needs_colour(e)]
        if exchanges:
            return _document(scene, exchanges, template, coloured=coloured)


def _captioned(scene: Scene, caption: str) -> Document:
    """A scene without colours and its caption, as in the connector's pretraining; the line's end is learned too."""
    front = _described(scene, coloured=False) + " "
    return Document(f"{front}{caption}\n", ((len(front), len(front) + len(caption) + 1),))


CURRICULUM: tuple[tuple[float, tuple[float, float, float, float]], ...] = (
    (0.2, (0.70, 0.15, 0.10, 0.05)),
    (0.35, (0.20, 0.25, 0.25, 0.30)),
    (1.0, (0.05, 0.05, 0.55, 0.35)),
)
"""Until which part of the training which shares hold: checklists, short questions, conversations, captions."""


def curriculum_document(rng: np.random.Generator, part: float, templates: Sequence[str]) -> Document:
    """A document for a base model at ``part`` (0 to 1) of its pretraining, in one of the templates."""
    shares = next(shares for until, shares in CURRICULUM if part < until or until == 1.0)
    kind = rng.choice(4, p=shares)
    if kind == 2:
        return _talk(rng, str(rng.choice(list(templates))))
    scene = any_scene(rng, "train")
    if kind == 3:
        return _captioned(scene, language.any_caption(scene, rng))
    return (_checklist, _short_questions)[kind](scene, rng)


_QUESTIONS = {
    "existence": language.any_existence, "count": language.how_many, "colour": language.colour,
    "position": language.position, "place": language.place,
}  # fmt: skip
SKILLS = ("existence", "caption", "count", "colour", "position", "place", "mme")


def examination(skill: str, rng: np.random.Generator, template: str) -> Document:
    """One question about a test scene written in words; the model's text-only examination."""
    scene = any_scene(rng, "test")
    if skill == "caption":
        return _captioned(scene, language.caption(scene, rng, "coco", form=0))
    if skill == "mme":
        return _document(scene, [language.mme_exchange(scene, rng)], template, coloured=True)
    return _document(scene, [_QUESTIONS[skill](scene, rng).short_form()], template, coloured=skill == "colour")


# --- training -------------------------------------------------------------------------------------------------------


def encode(tokenizer: "PreTrainedTokenizerFast", documents: list[Document]) -> list[Row]:
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
    for skill in SKILLS:
        documents = [examination(skill, rng, settings.templates[0]) for _ in range(settings.questions)]
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
    model = _model(job, size).train()
    model.config.save_pretrained(job.out)
    tokenizer = load_tokenizer(job.out, *map(stop_string, settings.templates))
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
                documents = [curriculum_document(rng, part, settings.templates) for _ in range(4 * settings.batch)]
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
    (job.out / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    (job.out / "examination.json").write_text(json.dumps(examination, indent=1) + "\n", encoding="utf-8")
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
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return len(vocabulary)
