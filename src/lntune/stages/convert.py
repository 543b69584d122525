"""convert: an LLM that is published as PyTorch's pickles with a SentencePiece model, as safetensors and tokenizer.json.

Vicuna v1.1 is published so. The pickles are read by PyTorch's restricted reader, which builds tensors and nothing else;
from here on they are never touched again.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lntune.config import Frozen
from lntune.errors import UserError
from lntune.store.job import Job, Metrics, NoExecution

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

PACKAGES = ("torch", "safetensors", "transformers", "tokenizers", "sentencepiece")

_INDEX, _WHOLE = "pytorch_model.bin.index.json", "pytorch_model.bin"
_COPIED = ("config.json", "generation_config.json")
_COMPUTED = "rotary_emb.inv_freq"
"""The end of the name of buffers that early checkpoints stored; they follow from the config."""


class Settings(Frozen):
    """Nothing to choose."""


Execution = NoExecution


def pickles_of(folder: Path) -> list[str]:
    """The names of a checkpoint's pickled files; UserError if it has none, or its index is broken."""
    if (folder / _WHOLE).is_file():
        return [_WHOLE]
    index = folder / _INDEX
    try:
        files = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except FileNotFoundError:
        raise UserError(f"{folder}: holds neither {_WHOLE} nor {_INDEX}; there is nothing to convert") from None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index}: is not an index of weights ({error!r}); download it again") from None
    for name in files:
        if Path(name).name != name:
            raise UserError(f"{index}: names the file {name!r}, which leaves the folder")
    return files


def _read(path: Path) -> "dict[str, Tensor]":
    """The tensors of one pickled file, without what is computed anyway; UserError if it holds anything else."""
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; the index names it") from None
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"{path}: is not a file of tensors alone ({first}); it is not read any further") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path}: holds something else than named tensors")
    return {name: value for name, value in state.items() if not name.endswith(_COMPUTED)}


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write config.json, safetensors with their index, tokenizer.json and tokenizer_config.json."""
    from safetensors.torch import save_file

    from lntune.model.llm import check_weights, load_tokenizer

    folder, out = job.folder("llm"), job.out
    names = pickles_of(folder)
    weight_map: dict[str, str] = {}
    total = 0
    with job.track(len(names), "files") as progress:
        for number, name in enumerate(names, 1):
            tensors = {key: value.clone().contiguous() for key, value in _read(folder / name).items()}
            target = f"model-{number:05d}-of-{len(names):05d}.safetensors"
            save_file(tensors, out / target, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(tensors, target)
            total += sum(value.nbytes for value in tensors.values())
            progress.advance(1)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    for name in _COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    vocabulary = _convert_tokenizer(folder, out)
    check_weights(out)
    load_tokenizer(out)
    return {"files": len(names), "tensors": len(weight_map), "bytes": total, "vocabulary": vocabulary}


def _convert_tokenizer(folder: Path, out: Path) -> int:
    """Write the tokenizer as tokenizer.json; return the vocabulary's size."""
    path, source = folder / "tokenizer.model", folder / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; a checkpoint to convert needs its SentencePiece model")
    tokenizer = fast_tokenizer(path)
    tokenizer.save(str(out / "tokenizer.json"))
    try:
        longest = int(json.loads(source.read_bytes())["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source}: names no max_position_embeddings ({error!r}); download it again") from None
    config = {
        "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False, "model_max_length": longest,
    }  # fmt: skip
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return int(tokenizer.get_vocab_size())


def fast_tokenizer(path: Path) -> "Tokenizer":
    """A SentencePiece BPE model as a tokenizer of the ``tokenizers`` library; UserError if it is another kind of model.

    It is laid out as LLaMA 2's own tokenizer.json: blanks become U+2581, every text begins with one, also behind a
    special token, and bytes stand for what the vocabulary lacks.
    """
    from google.protobuf.message import DecodeError
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers.convert_slow_tokenizer import SentencePieceExtractor

    try:
        extracted = SentencePieceExtractor(str(path)).extract(models.BPE)
    except DecodeError as error:
        raise UserError(f"{path}: is not a SentencePiece model ({error}); download it again") from None
    vocabulary, merges = extracted["vocab"], extracted["merges"]
    if not merges or "<0x0A>" not in vocabulary:
        raise UserError(f"{path}: is no byte-pair model with bytes to fall back on, as LLaMA's is")
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer
