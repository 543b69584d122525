"""Tiny models whose answers tell apart how they were asked, and a tokenizer of words."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lntune.model.multimodal import MultimodalModel
from tiny_multimodal import VOCABULARY, tiny_model

STOP = "###"


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words w4 to w59 after the special tokens and the stop string (3), decoded with spaces between."""
    words = ["<pad>", "<s>", "</s>", STOP] + [f"w{number}" for number in range(4, VOCABULARY)]
    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def sharp_model() -> MultimodalModel:
    """Answers of all lengths: a head of a size that makes likeliest tokens stand out."""
    model = tiny_model(seed=2)
    with torch.no_grad():
        model.llm.lm_head.weight.mul_(4)
    return model


def tied_model() -> MultimodalModel:
    """A model with near-ties everywhere: each word's row of the head has a twin that differs by some 1e-6."""
    model = sharp_model()
    head = model.llm.lm_head.weight
    with torch.no_grad():
        head[5::2] = head[4:-1:2] + 1e-6 * torch.randn_like(head[4:-1:2])
    return model
