"""LLaMA checkpoints in miniature, as they lie on the hub: LLaMA 2's sharded safetensors, Vicuna's pickles."""

import json
import random
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from lntune.stages.convert import fast_tokenizer

TEXT = "the image of a cat and two dogs on red grass near an old house what is there colour number yes no"
WORDS = TEXT.split()
VOCABULARY = 400


def train_sentencepiece(folder: Path, size: int = VOCABULARY, **others: Any) -> Path:
    """A byte-pair model with byte fall-back, as LLaMA's: folder/tokenizer.model."""
    generator = random.Random(0)
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(generator.choices(WORDS, k=12)) + "?" for _ in range(500)))
    kind = {"model_type": "bpe", "byte_fallback": True, "character_coverage": 1.0} | others
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=size, unk_id=0, bos_id=1, eos_id=2,
        pad_id=-1, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        minloglevel=2, **kind,
    )  # fmt: skip
    text.unlink()
    (folder / "tokenizer.vocab").unlink()
    return folder / "tokenizer.model"


def _model(folder: Path, seed: int) -> LlamaForCausalLM:
    """A LLaMA in half precision, as all of these are published; its config is written."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=172, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rms_norm_eps=1e-5,
    )  # fmt: skip
    config.architectures, config.dtype = ["LlamaForCausalLM"], torch.float16
    config.save_pretrained(folder)
    generation = {"bos_token_id": 1, "eos_token_id": 2, "do_sample": True, "temperature": 0.6, "top_p": 0.9}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return LlamaForCausalLM(config).half()


def _shards(names: list[str], pattern: str) -> dict[str, list[str]]:
    return {pattern.format(k + 1): names[k::2] for k in range(2)}


def _write_index(path: Path, shards: dict[str, list[str]]) -> None:
    weight_map = {name: file for file, held in shards.items() for name in held}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")


def write_vicuna(folder: Path) -> None:
    """Two pickled shards with an index, the buffers of early checkpoints among the tensors; a SentencePiece model."""
    folder.mkdir(parents=True, exist_ok=True)
    train_sentencepiece(folder)
    state = _model(folder, 0).state_dict()
    state |= {f"model.layers.{k}.self_attn.rotary_emb.inv_freq": torch.ones(8) for k in range(3)}
    shards = _shards(sorted(state), "pytorch_model-0000{}-of-00002.bin")
    for file, held in shards.items():
        torch.save({name: state[name].clone() for name in held}, folder / file)
    _write_index(folder / "pytorch_model.bin.index.json", shards)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_llama2(folder: Path, *, sharded: bool = True) -> None:
    """Two shards of safetensors with an index, tokenizer.json and its configs, as meta-llama publishes LLaMA 2 7B.

    Without shards it is one file, as TinyLlama's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = train_sentencepiece(folder)
    fast_tokenizer(model).save(str(folder / "tokenizer.json"))
    model.unlink()
    state = _model(folder, 1).state_dict()
    state |= {f"model.layers.{k}.self_attn.rotary_emb.inv_freq": torch.ones(8) for k in range(3)}
    shards = _shards(sorted(state), "model-0000{}-of-00002.safetensors") if sharded else {"model.safetensors": [*state]}
    for file, held in shards.items():
        save_file({name: state[name].clone() for name in held}, folder / file, metadata={"format": "pt"})
    if sharded:
        _write_index(folder / "model.safetensors.index.json", shards)
    special = {
        name: {"content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
        for name, text in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {
        "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "legacy": False,
        "model_max_length": 1000000000000000019884624838656, "pad_token": None, "padding_side": "right",
        "sp_model_kwargs": {}, "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
