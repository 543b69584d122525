"""Answers from the model, many at a time, without the batch having a say in them.

Prompts of equal length are decoded together, so there is no padding. In another batch size the same logits
differ in their last bits, which can turn a near-tie between two tokens: an answer that meets one is dropped
and made again on its own, so every answer is the one that batch size 1 gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lntune.model.features import FeatureSource
from lntune.model.multimodal import MultimodalModel
from lntune.progress import Progress

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedTokenizerFast

# Two best scores closer than this, in logits, are a near-tie. Rounding in float32 moves a logit by some 1e-5.
NEAR_TIE = 1e-3


class Prompt(NamedTuple):
    """Token ids, with one IMAGE_ID where the image goes, and the image's index: None for text alone."""

    ids: list[int]
    image: int | None


def generate(
    model: MultimodalModel,
    tokenizer: "PreTrainedTokenizerFast",
    prompts: Sequence[Prompt],
    features: FeatureSource,
    *,
    max_new_tokens: int,
    stop: str,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> list[str]:
    """Return one answer a prompt, in order: without special tokens, cut at ``stop``, stripped of white space.

    An answer ends at the tokenizer's end-of-sequence token, where its text holds ``stop``, or after
    ``max_new_tokens``. At temperature 0 the likeliest token is taken; above, tokens are sampled with noise
    from each prompt's own seed (one of ``seeds`` a prompt). ``progress`` counts finished answers. The model
    should be in float32: in bf16 rounding exceeds ``NEAR_TIE``, and the batch would show.
    """
    assert temperature == 0.0 or (seeds is not None and len(seeds) == len(prompts)), "sampling needs a seed a prompt"
    decoder = Decoder(model.eval(), tokenizer, features, max_new_tokens, stop, temperature)
    answers: dict[int, str] = {}
    batches = list(equal_length_batches(prompts, batch_size))
    while batches:
        batch = batches.pop()
        rows = [Row(i, prompts[i], seeds[i] if seeds else 0) for i in batch]
        finished = {row.index: row.text for row in decoder.decode(rows)}
        answers |= finished
        batches += [[index] for index in batch if index not in finished]
        if progress:
            progress.advance(len(finished))
    return [answers[index] for index in range(len(prompts))]


def equal_length_batches(prompts: Sequence[Prompt], batch_size: int) -> Iterator[list[int]]:
    """Yield at most ``batch_size`` indices at a time, of prompts of one length, all with or without image."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault((len(prompt.ids), prompt.image is None), []).append(index)
    for _, group in sorted(groups.items()):
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


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
    tokenizer: "PreTrainedTokenizerFast"
    features: FeatureSource
    max_new_tokens: int
    stop: str
    temperature: float

    @torch.no_grad()
    def decode(self, rows: list[Row]) -> list[Row]:
        """Return the rows with their answers, but for those that met a near-tie and were not alone."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.llm.config)
        finished, alone = [], len(rows) == 1
        embedded = self._prompt_embeddings(rows)
        for step in range(self.max_new_tokens):
            (tokens, margins) = self._choose(self._logits(embedded, cache), rows)
            keep = []
            for position, (row, token, margin) in enumerate(zip(rows, tokens, margins, strict=True)):
                if margin < NEAR_TIE and not alone:
                    continue
                if self._ends(row, token) or step + 1 == self.max_new_tokens:
                    finished.append(row)
                else:
                    keep.append(position)
            if not keep:
                break
            if len(keep) < len(rows):
                rows = [rows[position] for position in keep]
                cache.batch_select_indices(torch.tensor(keep, device=embedded.device))
            embedded = self._token_embeddings(rows)
        return finished

    def _prompt_embeddings(self, rows: Sequence[Row]) -> Tensor:
        """Embed prompts of equal length: (B, L, hidden)."""
        images = [row.prompt.image for row in rows if row.prompt.image is not None]
        found = self.features.features(images) if images else None
        return self.model.embed([row.prompt.ids for row in rows], found)[0]

    def _token_embeddings(self, rows: Sequence[Row]) -> Tensor:
        """Embed each row's latest token: (B, 1, hidden)."""
        table = self.model.llm.get_input_embeddings()
        latest = torch.tensor([row.tokens[-1:] for row in rows], device=table.weight.device)
        embedded: Tensor = table(latest)
        return embedded

    def _logits(self, embedded: Tensor, cache: "Cache") -> Tensor:
        """Return the next token's logits, float32 (B, vocabulary), and extend the cache."""
        llm = self.model.llm
        hidden = llm.model(inputs_embeds=embedded, past_key_values=cache, use_cache=True).last_hidden_state
        logits: Tensor = llm.lm_head(hidden[:, -1]).float()
        return logits

    def _choose(self, logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[float]]:
        """Return each row's token and by how much, in logits, it beat the next best."""
        if self.temperature > 0.0:
            noise = torch.stack([row.gumbel(logits.shape[1]) for row in rows])
            logits = logits + self.temperature * noise.to(logits.device)
        best = logits.topk(2, dim=1)
        return best.indices[:, 0].tolist(), (best.values[:, 0] - best.values[:, 1]).tolist()

    def _ends(self, row: Row, token: int) -> bool:
        """Add a token to the row's answer; return whether it ends the answer."""
        if token == self.tokenizer.eos_token_id:
            return True
        row.tokens.append(token)
        text, mark, _ = self.tokenizer.decode(row.tokens, skip_special_tokens=True).partition(self.stop)
        row.text = text.strip()
        return bool(mark)
