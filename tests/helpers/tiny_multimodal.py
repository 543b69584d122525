"""A multi-modal model small enough for tests: a stand-in patch encoder, a real LLaMA, random samples."""

import random

import torch
from torch import Tensor, nn
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from lntune.model.encode import IGNORE, IMAGE_ID, EncodedSample
from lntune.model.multimodal import MultimodalModel, build_connector

VOCABULARY = 60

# More threads only wait for each other with matrices of this size: for long, if the machine is busy.
torch.set_num_threads(1)


class PatchEncoder(nn.Module):
    """One random linear map over the four quadrants of an 8 x 8 image."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.width = 4, 6
        self.patch = nn.Conv2d(3, self.width, kernel_size=4, stride=4)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.patch(pixels).flatten(2).transpose(1, 2)


def tiny_model(
    attention_dropout: float = 0.0, seed: int = 0, hidden_size: int = 16, vocab_size: int = VOCABULARY
) -> MultimodalModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=vocab_size,
        max_position_embeddings=64,
        initializer_range=0.3,
        attention_dropout=attention_dropout,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    connector = build_connector(6, hidden_size, seed=0)
    return MultimodalModel(PatchEncoder(), connector, LlamaForCausalLM(config)).eval()


def image(index: int) -> Tensor:
    return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))


def random_samples(count: int, seed: int = 0) -> list[EncodedSample]:
    """Two-turn samples of 8 to 24 ids; every fifth is text alone."""
    rng = random.Random(seed)
    samples = []
    for number in range(count):
        image = None if number % 5 == 4 else number % 7
        ids, labels = [1], [IGNORE]
        if image is not None:
            ids.append(IMAGE_ID)
            labels.append(IGNORE)
        for _ in range(2):
            question = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, 4))]
            answer = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(2, 6))] + [2]
            ids += question + answer
            labels += [IGNORE] * len(question) + answer
        samples.append(EncodedSample(ids, labels, image))
    return samples
