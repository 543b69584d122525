"""Answers from the model, many at a time, without the batch having a say in them.

Prompts of equal length are decoded together. Of prompts that begin alike up to their image (an image's questions),
that beginning is read once, and its keys and values are shared. In another batch size the same logits differ in their
last bits, which can turn a near-tie between two tokens. In float32 an answer that meets one is dropped and made again
on its own, without sharing, so every answer is the one that batch size 1 gives. In bfloat16, whose steps are 0.06 for
logits of 10, too many would be: there an answer is that of its batch size.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.cache_utils import DynamicCache

from lntune.config.training import AnswerPrecision
from lntune.model.features import FeatureSource
from lntune.model.llm import end_tokens
from lntune.model.multimodal import MultimodalModel
from lntune.model.prefix_cache import Batch, Prompt, RowCache, batches
from lntune.progress import Progress

__all__ = ["NEAR_TIE", "Prompt", "generate"]

NEAR_TIE: Mapping[AnswerPrecision, float] = {"fp32": 1e-3, "bf16": 0.0}
"""Two best scores closer than this, in logits, are a near-tie. Rounding in float32 moves a logit by some 1e-5."""


def generate(
    model: MultimodalModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Prompt],
    features: FeatureSource,
    *,
    max_new_tokens: int,
    stop: str,
    min_new_tokens: int = 0,
    temperature: float = 0.0,
    top_k: int | None = None,
    seeds: Sequence[int] | None = None,
    batch_size: int = 64,
    near_tie: float = NEAR_TIE["fp32"],
    progress: Progress | None = None,
) -> list[str]:
    """Return one answer a prompt, in order: without special tokens, cut at ``stop``, stripped of white space.

    An answer ends at the tokenizer's end-of-sequence token or a special token that says ``stop``, neither of which is
    among its first ``min_new_tokens``, where its text holds ``stop``, or after ``max_new_tokens``. At temperature 0 the
    likeliest token is taken, and a prompt that is there twice is answered once; above, tokens are sampled, of the
    ``top_k`` likeliest (None: of all), with noise from each prompt's own seed. Keys and values of at most
    ``batch_size`` prompts are held at once. ``progress`` counts finished answers. ``near_tie`` is that of NEAR_TIE for
    the precision that the model is in.
    """
    assert temperature == 0.0 or (seeds is not None and len(seeds) == len(prompts)), "sampling needs a seed a prompt"
    decoder = Decoder(
        model.eval(), tokenizer, features, max_new_tokens, stop, temperature, top_k, min_new_tokens, near_tie
    )
    same = list(range(len(prompts))) if temperature else first_alike(prompts)
    times = Counter(same)
    answers: dict[int, str] = {}
    waiting = list(batches(prompts, times, batch_size))
    while waiting:
        batch = waiting.pop()
        rows = [Row(i, prompts[i], seeds[i] if seeds else 0) for i in batch.indices]
        finished = {row.index: row.text for row in decoder.decode(rows, shared=batch.shared)}
        answers |= finished
        waiting += [Batch([index], shared=False) for index in batch.indices if index not in finished]
        if progress:
            progress.advance(sum(times[index] for index in finished))
    return [answers[index] for index in same]


def first_alike(prompts: Sequence[Prompt]) -> list[int]:
    """For each prompt the index of the first that equals it."""
    first: dict[tuple[tuple[int, ...], int | None], int] = {}
    return [first.setdefault((tuple(prompt.ids), prompt.image), index) for index, prompt in enumerate(prompts)]


@dataclass
class Row:
    """One answer in the making."""

    index: int
    prompt: Prompt
    seed: int
    tokens: list[int] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        self.noise = torch.Generator().manual_seed(self.seed)

    def gumbel(self, size: int) -> Tensor:
        """Draw Gumbel noise (size,): the largest of logits plus noise is a sample from their softmax."""
        return -torch.log(-torch.log(torch.rand(size, generator=self.noise)))


@dataclass(frozen=True)
class Decoder:
    """A model with a rule for choosing tokens and for ending answers."""

    model: MultimodalModel
    tokenizer: PreTrainedTokenizerFast
    features: FeatureSource
    max_new_tokens: int
    stop: str
    temperature: float
    top_k: int | None = None
    min_new_tokens: int = 0
    near_tie: float = NEAR_TIE["fp32"]
    closing: dict[int, bool] = field(default_factory=dict)
    """Tokens looked at so far, and whether one can be the last of ``stop``."""

    @cached_property
    def ends(self) -> list[int]:
        """The tokens that end an answer, cached: they take longer to look up than the rest of a row's turn."""
        return end_tokens(self.tokenizer, self.stop)

    @torch.no_grad()
    def decode(self, rows: list[Row], *, shared: bool = False) -> list[Row]:
        """Return the rows with their answers, but for those that met a near-tie and were not alone.

        Unless ``shared``, the prompts are of one length; a row alone is never shared.
        """
        finished, alone = [], len(rows) == 1
        rows, logits, cache = self._read_sharing(rows) if shared and not alone else self._read(rows)
        for step in range(self.max_new_tokens):
            if step < self.min_new_tokens:
                logits[:, self.ends] = -torch.inf
            tokens, margins = self._choose(logits, rows)
            keep = []
            for position, (row, token, margin) in enumerate(zip(rows, tokens, margins, strict=True)):
                if margin < self.near_tie and not alone:
                    continue
                if self._ends(row, token) or step + 1 == self.max_new_tokens:
                    row.text = self._text(row.tokens).partition(self.stop)[0].strip()
                    finished.append(row)
                else:
                    keep.append(position)
            if not keep:
                break
            if len(keep) < len(rows):
                rows = [rows[position] for position in cache.keep(keep)]
            logits = self._logits(self._embed([row.tokens[-1:] for row in rows]), cache)
        return finished

    def _read(self, rows: list[Row]) -> tuple[list[Row], Tensor, DynamicCache | RowCache]:
        """Read prompts of equal length; return the rows, the logits behind them, and the cache."""
        images = [row.prompt.image for row in rows if row.prompt.image is not None]
        found = self._features(images) if images else None
        embedded = self.model.embed([row.prompt.ids for row in rows], found)[0]
        if len(rows) == 1:
            cache = DynamicCache(config=self.model.llm.config)
        else:
            cache = self._row_cache(rows, embedded.shape[1])
        return rows, self._logits(embedded, cache), cache

    def _features(self, images: Sequence[int]) -> Tensor:
        """The images' features (B, T, W), in the connector's precision."""
        return self.features.features(images).to(self.model.connector_dtype)

    def _row_cache(self, rows: list[Row], longest: int) -> RowCache:
        """An empty cache for these rows, the longest of whose prompts takes so many positions."""
        return RowCache(self.model.llm.config.num_hidden_layers, len(rows), longest + self.max_new_tokens)

    def _read_sharing(self, rows: list[Row]) -> tuple[list[Row], Tensor, RowCache]:
        """Read prompts of any lengths, each prefix once; return as :meth:`_read` does, the rows in another order."""
        rows = sorted(rows, key=lambda row: len(row.prompt.rest()))
        begins = [(row.prompt.image, row.prompt.prefix()) for row in rows]
        place = {begin: number for number, begin in enumerate(dict.fromkeys(begins))}
        found = self._features([image for image, _ in place if image is not None])
        embedded = self.model.embed([prefix for _, prefix in place], found)[0]
        prefixes = DynamicCache()  # without the config: whole, where a family's blocks look through a window
        self._hidden(embedded, prefixes)
        rests = [row.prompt.rest() for row in rows]
        cache = self._row_cache(rows, embedded.shape[1] + len(rests[-1]))
        filled = cache.adopt(prefixes, torch.tensor([place[begin] for begin in begins], device=embedded.device))
        logits, first = [], 0
        for _, alike in groupby(rests, key=len):
            block = list(alike)
            cache.look(first, first + len(block), filled)
            logits.append(self._logits(self._embed(block), cache))
            first += len(block)
        cache.go_on([filled + len(rest) for rest in rests], embedded.device)
        return rows, torch.cat(logits), cache

    def _embed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Embed rows of equal length, of text alone: (B, L, hidden)."""
        table = self.model.llm.get_input_embeddings()
        embedded: Tensor = table(torch.tensor(ids, device=table.weight.device))
        return embedded

    def _hidden(self, embedded: Tensor, cache: DynamicCache | RowCache) -> Tensor:
        """Run the LLM, which extends the cache; return its last states (B, L, hidden)."""
        placement = cache.placement(self.model.llm.config) if isinstance(cache, RowCache) else {}
        output = self.model.llm.model(inputs_embeds=embedded, past_key_values=cache, use_cache=True, **placement)
        if isinstance(cache, RowCache):
            cache.advance(embedded.shape[1])
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _logits(self, embedded: Tensor, cache: DynamicCache | RowCache) -> Tensor:
        """Return the next token's logits, float32 (B, vocabulary), and extend the cache."""
        logits: Tensor = self.model.llm.lm_head(self._hidden(embedded, cache)[:, -1]).float()
        return logits

    def _choose(self, logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
        """Return each row's token and by how much, in logits, it beat the next best.

        Of the ``top_k`` likeliest, the margin is the smaller one of that and of the token's distance from those left
        out: rounding that moved it across would change the answer, as would one that it moved in.
        """
        scores = logits
        if self.temperature > 0.0:
            noise = torch.stack([row.gumbel(logits.shape[1]) for row in rows])
            scores = logits + self.temperature * noise.to(logits.device)
        if self.temperature == 0.0 or self.top_k is None or self.top_k >= logits.shape[1]:
            best = scores.topk(2, dim=1)
            return best.indices[:, 0].tolist(), (best.values[:, 0] - best.values[:, 1]).tolist()
        edges = logits.topk(self.top_k + 1, dim=1).values[:, -2:]
        last, left_out = edges[:, :1], edges[:, 1:]
        token = scores.masked_fill(logits < last, -torch.inf).argmax(1, keepdim=True)
        others = scores.masked_fill(logits < last - self.near_tie, -torch.inf).scatter(1, token, -torch.inf)
        ahead = scores.gather(1, token) - others.amax(1, keepdim=True)
        margins = torch.minimum(ahead, logits.gather(1, token) - left_out)
        return token[:, 0].tolist(), margins[:, 0].tolist()

    def _ends(self, row: Row, token: int) -> bool:
        """Add a token to the row's answer; return whether it ends the answer."""
        if token in self.ends:
            return True
        row.tokens.append(token)
        return self._can_close(token) and self.stop in self._text(row.tokens)

    def _can_close(self, token: int) -> bool:
        """Whether ``stop`` can end in this token: if it holds the last character, or is a piece of a character."""
        if token not in self.closing:
            text = self._text([token])
            self.closing[token] = self.stop[-1].isspace() or self.stop[-1] in text or "\ufffd" in text
        return self.closing[token]

    def _text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text
