"""Reads an LLM of a declared family and its tokenizer from a folder in Hugging Face's format; safetensors only.

Neither is taken on trust: weights, special tokens and the end of an answer are compared with what is needed.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import init_empty_weights
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from lntune.config.llm_family import FAMILIES, declared
from lntune.errors import UserError
from lntune.model.weights import check

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_COMPUTED = "rotary_emb.inv_freq"
"""The end of the name of buffers that early checkpoints hold (LLaMA 2 7B); they follow from the config."""
_HEAD, _WORDS = "lm_head.weight", "model.embed_tokens.weight"
_OTHER = "this is not the checkpoint that its config.json describes: get all of its files again, or choose another"


def _read(path: Path, key: str) -> Any:
    """A JSON file, which has this key; UserError if the file is damaged or has no such key."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: names no {key} ({error!r}); an LLM's folder needs it") from None
    return found


def load_tokenizer(folder: Path, *stops: str) -> PreTrainedTokenizerFast:
    """The tokenizer of an LLM's folder; UserError if it does not fit the LLM, or cannot end an answer.

    It must have tokens that begin and end a sequence (some families have none that begins one, and one token may do
    both where the LLM's config.json says so), none that the embedding lacks, and no word for padding. Each of the marks
    ``stops`` must be able to end an answer.
    """
    path, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    llm = _read(folder / "config.json", "vocab_size")
    if not path.is_file():
        raise UserError(f"{path}: missing; an LLM's folder needs its tokenizer")
    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # Rust's have no other class
        raise UserError(f"{path}: it or {config.name} is not a tokenizer's ({error}); get both again") from None
    plain, vocabulary, rows = Tokenizer.from_file(str(path)), tokenizer.get_vocab(), llm["vocab_size"]
    unknown = getattr(plain.model, "unk_token", tokenizer.unk_token)  # what takes the place of other characters
    named = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    if named["bos_token"] is None and not FAMILIES[declared(llm, folder / "config.json")].starts:
        del named["bos_token"]
    for key, text in named.items():
        # An empty name, and one that the vocabulary lacks, would get the id of the unknown token.
        if text not in vocabulary or text == unknown:
            raise UserError(f"{config}: {key} is {text!r}; name the token that begins or ends a sequence, not <unk>")
    ends = llm.get("eos_token_id")
    if tokenizer.bos_token_id == tokenizer.eos_token_id and (
        llm.get("bos_token_id") not in (ends if isinstance(ends, list) else [ends])
    ):
        raise UserError(
            f"{config}: bos_token and eos_token are both {tokenizer.eos_token!r}, in config.json they are not; name two"
        )
    last = max(vocabulary, key=lambda token: vocabulary[token])
    if vocabulary[last] >= rows:  # fewer tokens than rows are legal: rows may be padded
        raise UserError(
            f"{path}: {last!r} has the id {vocabulary[last]}, but the LLM's embedding has {rows} rows, from 0; "
            "take the tokenizer that belongs to these weights, without tokens that were added to it"
        )
    pad = tokenizer.pad_token
    added = {token.content for token in plain.get_added_tokens_decoder().values()}
    if pad in plain.get_vocab().keys() - added - {tokenizer.unk_token, *named.values()}:
        raise UserError(f"{config}: pad_token is the word {pad!r}, which answers would lose; name none, or <unk>")
    for stop in stops:
        ids = tokenizer(stop, add_special_tokens=False)["input_ids"]
        seen = stop in tokenizer.decode(ids, skip_special_tokens=True)
        if not seen and set(ids).isdisjoint(end_tokens(tokenizer, stop)):
            raise UserError(
                f"{path}: cannot say {stop!r}, by which the prompt template ends an answer, so that none would end; "
                "choose a template whose end this tokenizer knows"
            )
    return tokenizer


def end_tokens(tokenizer: PreTrainedTokenizerFast, stop: str) -> list[int]:
    """The ids that end an answer: the end of a sequence, and special tokens that say ``stop``, which no text shows."""
    ends = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special and stop in token.content}
    return sorted(ends | {tokenizer.eos_token_id} - {None})


def check_weights(folder: Path) -> tuple[PretrainedConfig, list[Path]]:
    """The config of the LLM in a folder, and its safetensors; UserError unless they hold just what it needs."""
    architecture = _architecture(folder)
    if (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder / 'adapter_config.json'}: an adapter would change the LLM; merge it into the weights")
    if (folder / _WHOLE).is_file():
        files = [folder / _WHOLE]
    elif (folder / _INDEX).is_file():
        files = [folder / name for name in sorted({*_read(folder / _INDEX, "weight_map")["weight_map"].values()})]
    else:
        raise UserError(f"{folder}: holds no .safetensors named {_WHOLE} or by {_INDEX}; nothing else is read")
    config: PretrainedConfig = architecture.config_class.from_pretrained(folder)
    with torch.device("meta"):
        needed = architecture(config).state_dict()
    unused = (_COMPUTED, _HEAD) if config.tie_word_embeddings else _COMPUTED
    check(files, needed, _OTHER, lambda name: not name.endswith(unused))
    return config, files


def _architecture(folder: Path) -> Any:
    """transformers' class of the LLM in a folder; UserError if its family is not declared."""
    path = folder / "config.json"
    return getattr(transformers, FAMILIES[declared(_read(path, "model_type"), path)].architecture)


def load_llm(folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> PreTrainedModel:
    """The LLM in a folder of config.json and safetensors; UserError as :func:`check_weights`.

    Each weight is read in the checkpoint's own precision and cast to ``dtype`` on the ``device``, so that neither holds
    the LLM twice. Buffers (rotary frequencies) are computed on the CPU, in float32.
    """
    config, files = check_weights(folder)
    config._attn_implementation, config.dtype = "sdpa", dtype
    with no_init_weights(), init_empty_weights():
        model: PreTrainedModel = _architecture(folder)(config).eval()
    weights, needed = dict[str, torch.Tensor](), model.state_dict().keys()
    for path in files:
        with safe_open(path, framework="pt", device=str(device)) as file:  # type: ignore[no-untyped-call]
            for name in needed & {*file.keys()}:
                weights[name] = file.get_tensor(name).to(dtype, copy=True)  # else it would be the file itself
    if config.tie_word_embeddings:
        words = weights[_WORDS]
        if not torch.equal(weights.setdefault(_HEAD, words), words):
            raise UserError(
                f"{folder / 'config.json'}: ties head and embeddings, which differ in the weights; {_OTHER}"
            )
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    return model.to(device)
