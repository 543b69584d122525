"""Reads an LLM and its tokenizer from a folder in Hugging Face's format; LLaMA architecture, safetensors only."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM
from transformers.utils import logging

from lntune.errors import UserError


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of an LLM's folder; it must know <s> and </s>."""
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder / 'tokenizer.json'}: missing; an LLM's folder needs its tokenizer")
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise UserError(f"{folder / 'tokenizer_config.json'}: names no bos_token or no eos_token")
    return tokenizer


def load_llm(folder: Path) -> LlamaForCausalLM:
    """The LLaMA in a folder of config.json and safetensors, in float32; other architectures are refused."""
    logging.disable_progress_bar()
    config = LlamaConfig.from_pretrained(folder)
    if config.model_type != "llama":
        raise UserError(f"{folder / 'config.json'}: model_type is {config.model_type}, only llama is supported")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: holds no .safetensors; other weight formats are not read")
    model = LlamaForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa"
    )
    assert isinstance(model, LlamaForCausalLM)
    return model
