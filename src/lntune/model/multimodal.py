"""The multi-modal model: a frozen vision encoder, a connector, and an LLM that reads both.

A sample's token ids hold one ``IMAGE_ID`` where its image goes; :meth:`MultimodalModel.embed` puts the image's
projected features there. Rows are padded on the right, and attention is causal, so no real token sees the padding, and
no mask is passed: the fused causal attention kernel applies.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from lntune.config.llm_family import family_of
from lntune.config.training import ConnectorKind, Library, Precision, connector_inputs
from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample
from lntune.model.llm import load_llm
from lntune.model.vision import VisionEncoder, load_vision
from lntune.model.weights import check

CONNECTOR = "connector.safetensors"


class MultimodalModel(nn.Module):
    """Vision encoder, connector (the encoder's width to the LLM's, :func:`build_connector`), LLM of a declared family.

    The vision encoder stays frozen and in evaluation mode whatever else trains.
    """

    vision: VisionEncoder
    places: Tensor
    """Of the last :meth:`forward`: see :func:`answer_places`."""

    def __init__(self, vision: VisionEncoder, connector: nn.Module, llm: PreTrainedModel) -> None:
        super().__init__()
        self.vision = vision.requires_grad_(False).eval()
        self.connector = connector
        self.llm = llm

    def train(self, mode: bool = True) -> "MultimodalModel":
        """Switch training mode for everything but the vision encoder."""
        super().train(mode)
        self.vision.eval()
        return self

    @property
    def connector_dtype(self) -> torch.dtype:
        """The precision that the connector takes features in."""
        return next(self.connector.parameters()).dtype

    def embed(self, ids: Sequence[Sequence[int]], features: Tensor | None) -> tuple[Tensor, list[int]]:
        """Return input embeddings (B, L, hidden), right padded, and each row's length without the padding.

        ``ids`` are B rows with at most one IMAGE_ID each; ``features`` (R, T, W) belong to the R rows that have one, in
        row order, and are None if there are none. An image counts T tokens of a row's length.
        """
        table = self.llm.get_input_embeddings()
        device = table.weight.device
        rows = [splice_image(row, 0 if features is None else features.shape[1]) for row in ids]
        longest = max(map(len, rows))
        padded = [row + [0] * (longest - len(row)) for row in rows]
        embedded: Tensor = table(torch.tensor(padded).clamp(min=0).to(device))
        if features is not None:
            # Found without a tensor, so that a step can be traced on fake ones (estimate/training_step.py).
            slots = [place for place, token in enumerate(chain.from_iterable(padded)) if token == IMAGE_ID]
            assert len(slots) == features.shape[0] * features.shape[1], "one row of features an image"
            projected = self.connector(features.to(device)).flatten(0, 1).to(embedded.dtype)
            at = torch.tensor(slots, dtype=torch.long).to(device)
            embedded = embedded.flatten(0, 1).index_copy(0, at, projected).view_as(embedded)
        return embedded, [len(row) for row in rows]

    def forward(self, samples: Sequence[EncodedSample], features: Tensor | None, answer_tokens: int) -> Tensor:
        """Return the cross entropy summed over the samples' answer tokens, divided by ``answer_tokens``: ().

        ``answer_tokens`` counts the whole global batch, so the losses of its micro batches add up to its mean. The
        output head is applied only where the next token is part of an answer. ``features``: see :meth:`embed`.
        """
        embedded, _ = self.embed([sample.input_ids for sample in samples], features)
        image_tokens = 0 if features is None else features.shape[1]
        places, targets = answer_places(samples, image_tokens, embedded.shape[1])
        self.places = places.to(embedded.device)
        hidden = self.llm.model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        chosen = hidden.flatten(0, 1).index_select(0, self.places)
        logits = self.llm.lm_head(chosen).float()
        return F.cross_entropy(logits, targets.to(logits.device), reduction="sum") / answer_tokens


@contextmanager
def last_block_at_answers(model: MultimodalModel) -> Iterator[None]:
    """Compute of the last block's products what is read alone: where an answer's token is predicted, as of the head.

    Keys and values are read from everywhere, queries, what attention mixes and the MLP from there. Losses and gradients
    are those of the whole, up to rounding.
    """
    block, family = model.llm.model.layers[-1], family_of(model.llm)
    attention = getattr(block, family.attention)
    parts = getattr(attention, family.query), getattr(attention, family.output), getattr(block, family.mlp)

    def chosen(whole: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        found = whole(x.flatten(0, 1).index_select(0, model.places))
        rows = found.new_zeros(x.shape[0] * x.shape[1], found.shape[1])
        return rows.index_put_((model.places,), found).view(*x.shape[:2], -1)  # index_copy_ would keep found

    for part in parts:
        part.forward = partial(chosen, part.forward)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def splice_image(ids: Sequence[int], image_tokens: int) -> list[int]:
    """Repeat the row's IMAGE_ID, if there is one, ``image_tokens`` times."""
    row = list(ids)
    if IMAGE_ID in row:
        assert row.count(IMAGE_ID) == 1 and image_tokens > 0, "one image a row, and its features given"
        at = row.index(IMAGE_ID)
        row[at : at + 1] = [IMAGE_ID] * image_tokens
    return row


def row_length(sample: EncodedSample, image_tokens: int) -> int:
    """Return how many positions of the LLM a sample takes, its image ``image_tokens`` of them."""
    return len(sample.input_ids) + (image_tokens - 1 if sample.image is not None else 0)


def count_answer_tokens(samples: Sequence[EncodedSample]) -> int:
    """Return how many tokens of these samples bear a loss."""
    return sum(len(sample.labels) - sample.labels.count(IGNORE) for sample in samples)


def answer_places(samples: Sequence[EncodedSample], image_tokens: int, length: int) -> tuple[Tensor, Tensor]:
    """Return where answer tokens are predicted, and which they are: two int64 tensors (answer tokens,).

    Places index the rows of :meth:`MultimodalModel.embed` laid end to end, ``length`` apart. The token at position i is
    predicted from position i - 1; after an image, positions are ``image_tokens - 1`` further on than in the ids.
    """
    places, targets = [], []
    for row, sample in enumerate(samples):
        image_at = sample.input_ids.index(IMAGE_ID) if IMAGE_ID in sample.input_ids else len(sample.labels)
        for position, label in enumerate(sample.labels):
            if label != IGNORE:
                assert position > 0, "the first token has nothing before it to be predicted from"
                shift = image_tokens - 1 if position > image_at else 0
                places.append(row * length + position + shift - 1)
                targets.append(label)
    return torch.tensor(places, dtype=torch.long), torch.tensor(targets, dtype=torch.long)


def build_connector(width: int, hidden: int, seed: int, kind: ConnectorKind = "linear") -> nn.Module:
    """Return a connector from image features to the LLM, its layers with bias, drawn from its own seed.

    They are drawn as LLaVA's ``nn.Linear``, but by a generator of its own: all runs start alike whatever ran before.
    """
    generator, layers = torch.Generator().manual_seed(seed), list[nn.Linear]()
    for inputs in connector_inputs(kind, width, hidden):
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, hidden)  # type: ignore[no-untyped-call]
        bound = 1.0 / math.sqrt(inputs)
        with torch.no_grad():
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        layers.append(layer)
    return layers[0] if kind == "linear" else nn.Sequential(layers[0], nn.GELU(), layers[1])


def assemble(
    llm: Path, vision: Path, library: Library, *, seed: int, precision: Precision = "fp32",
    device: torch.device | str = "cpu", connector: ConnectorKind = "linear",
) -> MultimodalModel:  # fmt: skip
    """The model with a fresh connector, drawn from ``seed`` alike for every run of the same widths.

    The LLM is on the ``device``, in this precision; the others are as small as they are, and still to be placed there.
    """
    dtype = torch.bfloat16 if precision == "bf16-weights" else torch.float32
    language_model, encoder = load_llm(llm, dtype, device), load_vision(vision, library)
    built = build_connector(encoder.width, language_model.config.hidden_size, seed, connector)
    return MultimodalModel(encoder, built, language_model)


def save_connector(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write the connector's weights and biases, whose names begin with ``connector.``: nothing else trained."""
    own = {name.removeprefix("connector."): value.contiguous() for name, value in weights.items()}
    save_file(own, folder / CONNECTOR)


def load_connector(model: MultimodalModel, folder: Path) -> None:
    """Load what :func:`save_connector` wrote; UserError if it is of another kind, encoder or LLM."""
    path = folder / CONNECTOR
    check([path], model.connector.state_dict(), "it must come from the same LLM and vision encoder")
    model.connector.load_state_dict(load_file(path))
