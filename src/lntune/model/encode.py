"""From a rendered conversation to token ids and labels; samples whose loss mask does not line up are counted.

Labels come from the tokenizer's own offsets: a token is trained on when its characters lie in an answer's span, and one
that lies half in and half out has no right label. LLaVA compares token counts instead, and gives a sample that does not
match a loss of zero, with a printed warning (LLaVA issues 661 and 1166); here such a sample is refused and counted, and
too many of them stop the run. As in LLaVA, the text before and after the image is tokenized separately; unlike there,
what somebody says holds no tokens such as ``</s>``, only their characters.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lntune.errors import UserError
from lntune.model.prompts import IMAGE, Rendered

if TYPE_CHECKING:  # it takes seconds to import, and nothing here needs more than the tokenizer that is given
    from transformers import PreTrainedTokenizerFast

IMAGE_ID = -200
"""Stands in ``input_ids`` where the image's tokens will go; no tokenizer's id."""

IGNORE = -100
"""The label of a token that is not trained on; PyTorch's cross entropy skips it."""


ENCODED, ENCODED_SET = "encoded.safetensors", "set.json"


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
    """The ids of a prompt to generate from: the start token, if any, the text's, with IMAGE_ID for the placeholder."""
    return [token for tokens in _tokens(tokenizer, [prompt]) for token, _, _ in tokens]


Whole = EncodedSample | str
"""A conversation with all its tokens; or, if its mask cannot be right, why."""


def encode_whole(tokenizer: PreTrainedTokenizerFast, samples: Sequence[tuple[Rendered, int | None]]) -> Iterator[Whole]:
    """Tokenize conversations, each about the image of this number, in one call, and label their answers."""
    for (rendered, image), tokens in zip(samples, _tokens(tokenizer, [one for one, _ in samples]), strict=True):
        assert (IMAGE in rendered.text) == (image is not None), "an image and a placeholder go together"
        try:
            yield EncodedSample([token for token, _, _ in tokens], _labels(tokens, rendered), image)
        except MaskMisaligned as error:
            yield str(error)


def cut_all(
    samples: Iterable[Whole],
    max_length: int,
    *,
    threshold: float,
    image_tokens: int = 1,
    source: str = "the training data",
) -> tuple[list[EncodedSample], MaskReport]:
    """Cut every sample to :func:`cut`'s length; keep those that line up, in order, and count those that do not.

    Raises UserError, which names ``source`` and the first refused, if their share is above ``threshold`` (0 to 1), or
    none is left.
    """
    kept: list[EncodedSample] = []
    refused: list[str] = []
    truncated = 0
    for number, whole in enumerate(samples):
        try:
            if isinstance(whole, str):
                raise MaskMisaligned(whole)
            kept.append(cut(whole, max_length, image_tokens=image_tokens))
            truncated += kept[-1] is not whole
        except MaskMisaligned as error:
            refused.append(f"sample {number}: {error}")
    report = MaskReport(len(kept) + len(refused), len(refused), truncated)
    if refused and (not kept or report.misaligned > threshold * report.total):
        raise UserError(
            f"{source}: the loss mask of {report.misaligned} of {report.total} samples does not line up with "
            f"their tokens (allowed: a share of {threshold:g}), first {refused[0]}; choose another prompt "
            "template or a larger maximum length, or allow a larger share"
        )
    return kept, report


def cut(whole: EncodedSample, max_length: int, *, image_tokens: int = 1) -> EncodedSample:
    """The sample itself, or one without the tokens at its end that are too many.

    ``max_length`` counts positions of the LLM, of which the image takes ``image_tokens``. Raises MaskMisaligned when
    no answer token or no image is left.
    """
    kept = max(max_length - (image_tokens - 1 if whole.image is not None else 0), 0)
    long = len(whole.input_ids) > kept
    left = EncodedSample(whole.input_ids[:kept], whole.labels[:kept], whole.image) if long else whole
    why = f"after {max_length} tokens " if long else ""
    if left.image is not None and IMAGE_ID not in left.input_ids:
        raise MaskMisaligned(f"{why}the image is cut off")
    if all(label == IGNORE for label in left.labels):
        raise MaskMisaligned(f"{why}no token of an answer is left")
    return left


def write_encoded(folder: Path, archive: str, members: Sequence[str], samples: Iterable[Whole]) -> dict[str, int]:
    """Write all samples' tokens, one after another, and a JSON of the rest; return how many there are of what.

    The arrays are ``ids``, ``answers`` (whether a token is trained on), ``ends`` (of each sample among the tokens) and
    ``images`` (a place in ``members`` of the ``archive``; -1 for none). A sample that is refused has no tokens.
    """
    from safetensors.numpy import save_file

    ids, answers, ends, images, refused = array("i"), array("B"), array("q"), array("q"), dict[int, str]()
    for number, whole in enumerate(samples):
        if isinstance(whole, str):
            refused[number] = whole
        else:
            ids.extend(whole.input_ids)
            answers.extend(label != IGNORE for label in whole.labels)
        ends.append(len(ids))
        images.append(-1 if isinstance(whole, str) or whole.image is None else whole.image)
    arrays = {"ids": ids, "answers": answers, "ends": ends, "images": images}
    save_file({name: np.array(values) for name, values in arrays.items()}, folder / ENCODED)
    about = {"archive": archive, "images": members, "refused": refused}
    (folder / ENCODED_SET).write_text(json.dumps(about) + "\n", encoding="utf-8")
    return {"samples": len(ends), "tokens": len(ids), "misaligned": len(refused)}


def read_encoded(folder: Path) -> tuple[str, list[str], list[Whole]]:
    """The archive, its members and the samples that :func:`write_encoded` wrote."""
    from safetensors.numpy import load_file

    arrays, about = load_file(folder / ENCODED), json.loads((folder / ENCODED_SET).read_bytes())
    labels = np.where(arrays["answers"], arrays["ids"], IGNORE)
    samples, start = list[Whole](), 0
    for number, (end, image) in enumerate(zip(arrays["ends"].tolist(), arrays["images"].tolist(), strict=True)):
        tokens = arrays["ids"][start:end].tolist(), labels[start:end].tolist()
        why = about["refused"].get(str(number))
        samples.append(why or EncodedSample(*tokens, image if image >= 0 else None))
        start = end
    return about["archive"], about["images"], samples


_Tokens = list[tuple[int, int, int]]
"""Tokens, each with its characters ``[start, end)`` in a text."""


def _tokens(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Rendered]) -> Iterator[_Tokens]:
    """Every prompt's tokens; the start token first, if there is one, on no character; all texts in one call."""
    start_token = [] if tokenizer.bos_token_id is None else [(int(tokenizer.bos_token_id), 0, 0)]
    marks = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    parts = [prompt.text.partition(IMAGE) for prompt in prompts]
    tokenized = iter(_pieces(tokenizer, [piece for one in parts for piece in one if piece not in ("", IMAGE)]))
    for prompt, pieces in zip(prompts, parts, strict=True):
        text = prompt.text
        assert text.count(IMAGE) <= 1, "a text may hold one image placeholder"
        said = [(first, end) for first, end in prompt.said if any(mark in text[first:end] for mark in marks)]
        tokens, at = [*start_token], 0
        for piece in pieces:
            if piece == IMAGE:
                tokens.append((IMAGE_ID, at, at + len(piece)))
            for token, first, last in next(tokenized) if piece not in ("", IMAGE) else ():
                start, end = at + first, at + last
                if any(a <= start and end <= b for a, b in said) and text[start:end].strip() in marks:
                    (split,) = _pieces(tokenizer, [text[start:end]], split_special_tokens=True)
                    tokens += [(one, start + a, start + b) for one, a, b in split]
                else:
                    tokens.append((token, start, end))
            at += len(piece)
        yield tokens


def _pieces(tokenizer: PreTrainedTokenizerFast, texts: list[str], **how: bool) -> Iterator[_Tokens]:
    """The tokens of texts."""
    if texts:
        batch = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, **how)
        for ids, places in zip(batch["input_ids"], batch["offset_mapping"], strict=True):
            yield [(token, start, end) for token, (start, end) in zip(ids, places, strict=True)]


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
