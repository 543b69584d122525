"""Prompts that share their beginning: which are answered together, and the keys and values of their rows.

A prompt's *prefix* is all of it up to its image. Questions about one image have it in common, and it is nearly all
of a prompt: 256 of some 300 positions in LLaVA. So prompts of one prefix are answered in one batch, or prompts of one
length where there is nothing to share.

transformers' own cache copies all that it holds for every token that it appends, and again whenever a row ends. Here
the cache of a batch is laid out once, a token is written in its place, and the last rows move into the places of those
that ended. The attention kernels read the same numbers through a view.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from lntune.config.llm_family import FAMILIES
from lntune.model.encode import IMAGE_ID


class Prompt(NamedTuple):
    """Token ids, with one IMAGE_ID where the image goes, and the image's index: None for text alone."""

    ids: list[int]
    image: int | None

    def prefix(self) -> tuple[int, ...]:
        """Ids up to and with the image; none for text alone."""
        return () if self.image is None else tuple(self.ids[: self.ids.index(IMAGE_ID) + 1])

    def rest(self) -> list[int]:
        """Ids behind the image, or all for text alone."""
        return self.ids[len(self.prefix()) :]


class Batch(NamedTuple):
    """Indices of prompts that are answered together, and whether prefixes are read once for several of them.

    Without sharing the prompts are of one length, all with or all without image. With it only their prefixes are, and
    prompts of one prefix stand side by side.
    """

    indices: list[int]
    shared: bool


def batches(prompts: Sequence[Prompt], indices: Iterable[int], batch_size: int) -> Iterator[Batch]:
    """Yield batches of at most ``batch_size`` that hold each of these prompts once.

    A prefix is in one batch, or in as few as its prompts fill. Prompts that have theirs to themselves, or nothing
    behind it to tell them apart, are batched by length.
    """
    groups: dict[tuple[int | None, tuple[int, ...]], list[int]] = {}
    for index in indices:
        prompt = prompts[index]
        groups.setdefault((prompt.image, prompt.prefix()), []).append(index)
    shared, single = [], []
    for (image, prefix), group in groups.items():
        if image is None or len(group) == 1 or batch_size == 1 or not all(prompts[i].rest() for i in group):
            single += group
        else:
            shared += [(len(prefix), part) for part in _even_parts(group, batch_size)]
    for group in _equal_length(prompts, single, batch_size):
        yield Batch(group, shared=False)
    for group in _side_by_side(shared, batch_size):
        yield Batch(group, shared=True)


def _equal_length(prompts: Sequence[Prompt], indices: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    groups: dict[tuple[int, bool], list[int]] = {}
    for index in indices:
        groups.setdefault((len(prompts[index].ids), prompts[index].image is None), []).append(index)
    for _, group in sorted(groups.items()):
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _even_parts(group: list[int], batch_size: int) -> list[list[int]]:
    """As few parts as hold at most ``batch_size`` each, of sizes that differ by one at most."""
    count = -(-len(group) // batch_size)
    bounds = [len(group) * part // count for part in range(count + 1)]
    return [group[start:end] for start, end in pairwise(bounds)]


def _side_by_side(groups: Iterable[tuple[int, list[int]]], batch_size: int) -> Iterator[list[int]]:
    """Whole groups, in order, as many as fit; a batch's prefixes are of one length, which comes with each group."""
    for _, alike in groupby(sorted(groups, key=lambda found: found[0]), key=lambda found: found[0]):
        batch: list[int] = []
        for _, group in alike:
            if len(batch) + len(group) > batch_size:
                yield batch
                batch = []
            batch = batch + group
        yield batch


@dataclass
class Window:
    """The part of the buffers that a pass of the LLM reads and appends to: these rows, with so many columns filled."""

    first: int
    last: int
    filled: int = 0


class RowLayer(DynamicLayer):  # type: ignore[misc]
    """One decoder layer's buffers: (rows, heads, columns, head width), of which the window is seen."""

    def __init__(self, window: Window, rows: int, columns: int) -> None:
        super().__init__()
        self.window, self.rows, self.columns = window, rows, columns
        self.buffers: tuple[Tensor, Tensor] | None = None

    def lay_out(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers for keys and for values (..., heads, ..., head width) such as ``like``."""
        if self.buffers is None:
            shape = (self.rows, like.shape[1], self.columns, like.shape[3])
            self.buffers = like.new_empty(shape), like.new_empty(shape)
            self.is_initialized = True
        return self.buffers

    def update(self, key_states: Tensor, value_states: Tensor, *arguments: Any, **others: Any) -> tuple[Tensor, Tensor]:
        """Append to the window's rows; return all that they have seen. :meth:`RowCache.advance` counts it."""
        window = self.window
        end = window.filled + key_states.shape[2]
        keys, values = (buffer[window.first : window.last, :, :end] for buffer in self.lay_out(key_states))
        keys[:, :, window.filled :] = key_states
        values[:, :, window.filled :] = value_states
        return keys, values

    def get_seq_length(self) -> int:
        """Columns filled so far."""
        return self.window.filled


class RowCache(Cache):  # type: ignore[misc]
    """What ``rows`` rows have seen, up to ``columns`` tokens of each, in all of an LLM's decoder layers.

    Rows may have a gap before the column from which all go on together, where their prompts differ in length;
    :meth:`placement` is what the LLM needs to know of them.
    """

    def __init__(self, layers: int, rows: int, columns: int) -> None:
        self.window = Window(0, rows)
        self.rows, self.columns = rows, columns
        self.seen: Tensor | None = None
        super().__init__(layers=[RowLayer(self.window, rows, columns) for _ in range(layers)])

    def adopt(self, other: DynamicCache, places: Tensor) -> int:
        """Let every row begin as that one of ``other``'s at its place; return how many columns that fills.

        ``places`` (rows,), int64. ``other`` is emptied layer by layer, so that both are never held in full.
        """
        filled: int = other.get_seq_length()
        for layer, source in zip(self.layers, other.layers, strict=True):
            for buffer, states in zip(layer.lay_out(source.keys), (source.keys, source.values), strict=True):
                torch.index_select(states, 0, places, out=buffer[:, :, :filled])
            source.reset()
        return filled

    def look(self, first: int, last: int, filled: int) -> None:
        """Let the next pass be of the rows ``first`` to ``last`` (exclusive), with so many columns filled."""
        self.window.first, self.window.last, self.window.filled = first, last, filled

    def advance(self, tokens: int) -> None:
        """Count tokens that a pass has appended."""
        self.window.filled += tokens

    def go_on(self, lengths: Sequence[int], device: torch.device) -> None:
        """Let all rows go on together behind the longest of them; ``lengths`` are the columns each has filled.

        What is in the gaps is not looked at, but it is multiplied by zero, so it must be a number.
        """
        longest = max(lengths)
        self.look(0, self.rows, longest)
        if min(lengths) == longest:
            return
        seen, first = torch.ones(self.rows, self.columns, dtype=torch.bool), 0
        for length, alike in groupby(lengths):
            last = first + len(list(alike))
            seen[first:last, length:longest] = False
            for buffer in self.filled_buffers():
                buffer[first:last, :, length:longest] = 0.0
            first = last
        self.seen = seen.to(device)

    def placement(self, config: Any) -> dict[str, Any]:
        """Arguments by which the LLM's next pass, of one token a row, knows of the gaps: none where there are none.

        ``config`` is the LLM's. Where it gives blocks an attention window, that is of tokens, gaps left out.
        """
        if self.seen is None:
            return {}
        seen = self.seen[: self.window.last, : self.window.filled + 1]
        tokens = seen.cumsum(1)
        placed = {"attention_mask": seen, "position_ids": tokens[:, -1:] - 1}
        if (width := getattr(config, "sliding_window", None)) is None:
            return placed
        near = seen & (tokens > tokens[:, -1:] - width)
        by_kind = {"full_attention": seen[:, None, None], "sliding_attention": near[:, None, None]}
        by_block = FAMILIES[config.model_type].by_block
        return placed | {"attention_mask": by_kind if by_block else by_kind["sliding_attention"]}

    def filled_buffers(self) -> list[Tensor]:
        """All layers' keys and values, as far as columns are filled: views (rows, heads, columns, head width)."""
        return [buffer[:, :, : self.window.filled] for layer in self.layers for buffer in layer.buffers]

    def keep(self, positions: Sequence[int]) -> list[int]:
        """Give up all rows but these; return which row is now in each place.

        Rows at the end move into the places that become free, and no other is touched.
        """
        kept, stay = len(positions), set(positions)
        free = [place for place in range(kept) if place not in stay]
        moved = [place for place in positions if place >= kept]
        order = list(range(kept))
        for place, row in zip(free, moved, strict=True):
            order[place] = row
        if moved:
            for buffer in self.filled_buffers():
                buffer[free] = buffer[moved]
            if self.seen is not None:
                self.seen[free] = self.seen[moved]
        self.window.last = kept
        return order
