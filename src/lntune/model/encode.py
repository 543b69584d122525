"""From a rendered conversation to token ids and labels; samples whose loss mask does not line up are counted.

Labels come from the tokenizer's own offsets: a token is trained on when its characters lie in an answer's span, and one
that lies half in and half out has no right label. LLaVA compares token counts instead, and gives a sample that does not
match a loss of zero, with a printed warning (LLaVA issues 661 and 1166); here such a sample is refused and counted, and
too many of them stop the run. As in LLaVA, the text before and after the image is tokenized separately; unlike there,
what somebody says holds no tokens such as ``</s>``, only their characters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lntune.errors import UserError
from lntune.model.prompts import IMAGE, Rendered

if TYPE_CHECKING:  # it takes seconds to import, and nothing here needs more than the tokenizer that is given
    from transformers import PreTrainedTokenizerFast

IMAGE_ID = -200
"""Stands in ``input_ids`` where the image's tokens will go; no tokenizer's id."""

IGNORE = -100
"""The label of a token that is not trained on; PyTorch's cross entropy skips it."""


class MaskMisaligned(ValueError):  # noqa: N818  (it names the finding)
    """A sample whose loss mask cannot be right, and why."""


@dataclass(frozen=True)
class EncodedSample:
    """One training sample: ``labels[i]`` is ``input_ids[i]`` itself, or IGNORE.

    ``image`` is the number of the image whose features replace the one IMAGE_ID, or None.
    """

    input_ids: list[int]
    labels: list[int]
    image: int | None


@dataclass(frozen=True)
class MaskReport:
    """How many samples there were, how many were refused, and how many of those kept lost tokens at the end."""

    total: int
    misaligned: int
    truncated: int


def encode_prompt(tokenizer: PreTrainedTokenizerFast, prompt: Rendered) -> list[int]:
    """The ids of a prompt to generate from: ``<s>``, then the text's, with IMAGE_ID for the placeholder."""
    return [token for token, _, _ in _tokens(tokenizer, prompt)]


def encode_all(
    tokenizer: PreTrainedTokenizerFast,
    samples: Iterable[tuple[Rendered, int | None]],
    max_length: int,
    *,
    threshold: float,
    image_tokens: int = 1,
    source: str = "the training data",
) -> tuple[list[EncodedSample], MaskReport]:
    """Encode every sample (conversation, its image's number) that lines up, in order, and count those that do not.

    Raises UserError, which names ``source`` and the first refused, if their share is above ``threshold`` (0 to 1), or
    none is left.
    """
    encoded: list[EncodedSample] = []
    refused: list[str] = []
    truncated = 0
    for number, (rendered, image) in enumerate(samples):
        try:
            sample, cut = encode_sample(tokenizer, rendered, image, max_length, image_tokens=image_tokens)
        except MaskMisaligned as error:
            refused.append(f"sample {number}: {error}")
            continue
        encoded.append(sample)
        truncated += cut
    report = MaskReport(len(encoded) + len(refused), len(refused), truncated)
    if refused and (not encoded or report.misaligned > threshold * report.total):
        raise UserError(
            f"{source}: the loss mask of {report.misaligned} of {report.total} samples does not line up with "
            f"their tokens (allowed: a share of {threshold:g}), first {refused[0]}; choose another prompt "
            "template or a larger maximum length, or allow a larger share"
        )
    return encoded, report


def encode_sample(
    tokenizer: PreTrainedTokenizerFast, rendered: Rendered, image: int | None, max_length: int, *, image_tokens: int = 1
) -> tuple[EncodedSample, bool]:
    """Tokenize one conversation and label its answers; return also whether tokens were cut off its end.

    ``max_length`` counts positions of the LLM, of which the image takes ``image_tokens``. Raises MaskMisaligned when a
    token straddles an answer's boundary or the cut leaves no answer token or no image.
    """
    tokens = _tokens(tokenizer, rendered)
    labels = _labels(tokens, rendered)
    ids = [token for token, _, _ in tokens]
    assert (IMAGE_ID in ids) == (image is not None), "an image and a placeholder go together"
    kept = max_length - (image_tokens - 1 if image is not None else 0)
    cut = len(ids) > kept
    if cut:
        ids, labels = ids[: max(kept, 0)], labels[: max(kept, 0)]
    why = f"after {max_length} tokens " if cut else ""
    if image is not None and IMAGE_ID not in ids:
        raise MaskMisaligned(f"{why}the image is cut off")
    if all(label == IGNORE for label in labels):
        raise MaskMisaligned(f"{why}no token of an answer is left")
    return EncodedSample(ids, labels, image), cut


def _tokens(tokenizer: PreTrainedTokenizerFast, rendered: Rendered) -> list[tuple[int, int, int]]:
    """Every token with its characters ``[start, end)`` in the text; ``<s>`` first, on no character."""
    assert tokenizer.bos_token_id is not None, "the tokenizer names no token that begins a sequence"
    assert rendered.text.count(IMAGE) <= 1, "a text may hold one image placeholder"
    text = rendered.text
    marks = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    said = [(first, end) for first, end in rendered.said if any(mark in text[first:end] for mark in marks)]
    tokens, at = [(int(tokenizer.bos_token_id), 0, 0)], 0
    for piece in text.partition(IMAGE):
        if piece == IMAGE:
            tokens.append((IMAGE_ID, at, at + len(piece)))
        elif piece:
            for token, start, end in _pieces(tokenizer, piece, at):
                if any(first <= start and end <= last for first, last in said) and text[start:end].strip() in marks:
                    tokens += _pieces(tokenizer, text[start:end], start, split_special_tokens=True)
                else:
                    tokens.append((token, start, end))
        at += len(piece)
    return tokens


def _pieces(tokenizer: PreTrainedTokenizerFast, text: str, at: int, **how: bool) -> list[tuple[int, int, int]]:
    """The tokens of a text that begins at this character of another, and their characters there."""
    batch = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, **how)
    pairs = zip(batch["input_ids"], batch["offset_mapping"], strict=True)
    return [(token, at + start, at + end) for token, (start, end) in pairs]


def _labels(tokens: list[tuple[int, int, int]], rendered: Rendered) -> list[int]:
    """One label a token; one walk over tokens and spans, both in order of their characters."""
    labels = []
    spans = iter([*rendered.answers, (len(rendered.text) + 1, len(rendered.text) + 1)])
    first, last = next(spans)
    for position, (token, start, end) in enumerate(tokens):
        while start >= last:
            first, last = next(spans)
        if position > 0 and first <= start and end <= last:
            labels.append(token)
        elif end <= first:
            labels.append(IGNORE)
        else:
            piece = rendered.text[start:end]
            raise MaskMisaligned(f"the token {piece!r} at character {start} straddles the boundary of an answer")
    return labels
