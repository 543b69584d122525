"""Layer similarity: how alike the hidden states of an LLM's layers are (paper section 5.2, Table 6, Figures 3, A1, A2).

A hidden state is what a decoder layer returns at one position, the last layer's before the final norm; the embeddings
belong to no layer. The similarity of two layers is the cosine between their states at one position, its mean over a
question's positions, and of that over questions.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lntune.model.encode import IMAGE_ID
from lntune.model.features import FeatureSource
from lntune.model.multimodal import MultimodalModel, splice_image
from lntune.progress import Progress

TOKENS = ("all", "image", "text", "last")
"""Which positions of a prompt count: all, those of the image, all others (<s> among them), or the last alone."""


@dataclass
class LayerSimilarity:
    """The similarity of L layers over the questions that were added, for one choice of tokens."""

    layers: int
    by_question: list[float] = field(default_factory=list)  # the mean over all pairs of different layers

    def __post_init__(self) -> None:
        self._sum = torch.zeros(self.layers, self.layers, dtype=torch.float64)

    def add(self, similarities: Tensor) -> None:
        """Count one question: its mean cosines (L, L)."""
        similarities = similarities.to("cpu", torch.float64)
        self._sum += similarities
        self.by_question.append(between_different(similarities))

    @property
    def matrix(self) -> Tensor:
        """Mean over questions: float64 (L, L), symmetric, with a diagonal of ones."""
        return self._sum / len(self.by_question)

    @property
    def mean(self) -> float:
        """Mean over all pairs of different layers, which is that of the questions' too."""
        return between_different(self.matrix)

    @property
    def mean_with_diagonal(self) -> float:
        """Mean over all pairs, each layer with itself among them."""
        return float(self.matrix.mean())


@torch.no_grad()
def layer_similarity(
    model: MultimodalModel,
    prompts: Sequence[tuple[Sequence[int], int]],
    features: FeatureSource,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> Mapping[str, LayerSimilarity]:
    """Run the model over prompts and compare its layers: one result for each of TOKENS.

    ``model`` is in evaluation mode and has at least two layers. A prompt is token ids with one IMAGE_ID, and the index
    of the image in ``features``. The states of all layers for ``batch_size`` prompts, and twice those of one prompt in
    float64, are held at once; beyond float32's rounding it does not show. ``progress`` counts finished prompts.
    """
    layers: Sequence[nn.Module] = model.llm.model.layers
    assert len(layers) > 1, "a layer is compared with others"
    found = {tokens: LayerSimilarity(len(layers)) for tokens in TOKENS}
    outputs: list[Tensor] = []

    def keep(module: nn.Module, arguments: object, output: Tensor) -> None:
        outputs.append(output)

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_hook(keep))
        for start in range(0, len(prompts), batch_size):
            batch = prompts[start : start + batch_size]
            seen = features.features([image for _, image in batch])
            embedded, lengths = model.embed([ids for ids, _ in batch], seen)
            outputs.clear()
            model.llm.model(inputs_embeds=embedded, use_cache=False)
            for row, (ids, _) in enumerate(batch):
                compared = cosines(states[row, : lengths[row]] for states in outputs)
                for tokens, places in positions(ids, seen.shape[1]).items():
                    found[tokens].add(compared[places].mean(dim=0))
            if progress:
                progress.advance(len(batch))
    return found


def cosines(states: Iterable[Tensor]) -> Tensor:
    """The cosines between L layers' states (T, hidden) at each position: float64 (T, L, L); 0 for a state of zeros."""
    vectors = torch.stack([state.double() for state in states], dim=1)
    lengths = torch.linalg.vector_norm(vectors, dim=2, keepdim=True)
    vectors /= lengths.clamp_min(torch.finfo(torch.float64).tiny)
    return vectors @ vectors.transpose(1, 2)


def positions(ids: Sequence[int], image_tokens: int) -> dict[str, list[int]]:
    """The positions that each of TOKENS means in a prompt whose image takes ``image_tokens`` of them."""
    row = splice_image(ids, image_tokens)
    image = [place for place, token in enumerate(row) if token == IMAGE_ID]
    text = [place for place, token in enumerate(row) if token != IMAGE_ID]
    return {"all": list(range(len(row))), "image": image, "text": text, "last": [len(row) - 1]}


def between_different(matrix: Tensor) -> float:
    """Mean over the entries (L, L) off the diagonal."""
    return float(matrix[~torch.eye(len(matrix), dtype=torch.bool)].mean())
