"""An LLM's folder: every fault that published ones have is refused in one line, and what is harmless loads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from checkout import ROOT
from lntune.errors import UserError
from lntune.estimate.training_step import LiveTensors
from lntune.model.llm import end_tokens, load_llm, load_tokenizer
from lntune.model.prompts import TEMPLATES, stop_string
from tiny_llama import write_llama2

VICUNA = ROOT / "workflow" / "weights" / "vicuna-7b"
HEAD, NORM = "lm_head.weight", "model.norm.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(VICUNA, tmp_path / "llm"))


@pytest.fixture(scope="module")
def llama2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_llama2(tmp_path_factory.mktemp("llama2"))
    return tmp_path_factory.getbasetemp() / "llama20"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def with_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refused(load: Callable[[Path], object], folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        load(folder)
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(folder))
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda held: held.pop(HEAD), f"lacks {HEAD}; this is not the checkpoint that its config.json describes"),
        (lambda held: held.update({"score.weight": held[HEAD].clone()}), "has no place for: score.weight;"),
        (lambda held: held.update({NORM: held[NORM][:-8].clone()}), f"has other shapes: {NORM} (88,), not (96,)"),
        (lambda held: held.update({NORM: held[NORM].to(torch.int8)}), f"no floats in {NORM} (I8)"),
        (lambda held: [held.update({k[6:]: held.pop(k)}) for k in held.keys() - {HEAD}], "proj.weight, ...; holds"),
    ],
    ids=["missing", "left over", "another shape", "integers", "other names"],
)  # fmt: skip
def test_weights_that_the_model_does_not_need_or_lacks(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], because: str
) -> None:
    with_tensors(folder, change)
    assert because in refused(load_llm, folder)


def test_files_that_are_not_whole_or_would_change_the_llm(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert "merge it into the weights" in refused(load_llm, folder)
    (folder / "adapter_config.json").unlink()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "is not a whole safetensors file" in refused(load_llm, folder)
    weights.unlink()
    assert "holds no .safetensors" in refused(load_llm, folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "a.safetensors"}}')
    assert "a.safetensors: is not a whole safetensors file (No such file" in refused(load_llm, folder)


def test_head_and_embeddings_are_one_where_the_config_says_so(folder: Path) -> None:
    edit(folder / "config.json", tie_word_embeddings=True)
    assert "ties head and embeddings, which differ" in refused(load_llm, folder)
    with_tensors(folder, lambda held: held.pop(HEAD))
    model = load_llm(folder)
    assert torch.equal(
        model.lm_head.weight, load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float()
    )


def test_computed_buffers_in_llama_2s_shards_are_no_weights(llama2: Path) -> None:
    shards = {name: value for path in llama2.glob("*.safetensors") for name, value in load_file(path).items()}
    assert any(name.endswith("inv_freq") for name in shards)
    found = load_llm(llama2).state_dict()
    assert all(torch.equal(value, shards[name].float()) for name, value in found.items())


@pytest.mark.parametrize("kept", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_are_cast_once_and_buffers_are_computed_in_float32(folder: Path, kept: torch.dtype) -> None:
    """Of bfloat16 weights: as if they had been float32 in between. transformers' own reader is the reference."""
    with_tensors(folder, lambda held: held.update({name: value.to(kept) for name, value in held.items()}))
    wanted = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    buffers = dict(wanted.named_buffers())
    for dtype in (torch.float32, torch.bfloat16):
        found = load_llm(folder, dtype)
        for name, value in wanted.state_dict().items():
            assert found.state_dict()[name].dtype == dtype and torch.equal(found.state_dict()[name], value.to(dtype))
        assert buffers and all(torch.equal(value, buffers[name]) for name, value in found.named_buffers())
        assert not found.training and found.config._attn_implementation == "sdpa" and found.dtype == dtype


def test_reading_takes_no_float32_copy_of_bfloat16_weights(folder: Path) -> None:
    """All tensors that reading makes are followed: the model, and one tensor of the checkpoint at a time."""
    with LiveTensors() as live:
        model = load_llm(folder, torch.bfloat16)
    sizes = [value.nbytes for value in model.parameters()]
    assert sum(sizes) <= live.peak < sum(sizes) + 2 * max(sizes)


@pytest.mark.parametrize(
    ("named", "because"),
    [
        ({"bos_token": "", "eos_token": ""}, "bos_token is ''; name the token"),
        ({"eos_token": "<unk>"}, "eos_token is '<unk>'; name"),
        ({"bos_token": "</s>"}, "both '</s>', in config.json they are not; name two"),
        ({"pad_token": "yes"}, "pad_token is the word 'yes', which answers would lose"),
        ({"pad_token": "[PAD]"}, "'[PAD]' has the id 202, but the LLM's embedding has 202 rows"),
    ],
)
def test_special_tokens_that_cannot_be(folder: Path, named: dict[str, str], because: str) -> None:
    edit(folder / "tokenizer_config.json", **named)
    assert because in refused(load_tokenizer, folder)


@pytest.mark.parametrize("pad", [None, "<unk>", "</s>"], ids=["LLaMA 2's", "Vicuna's", "the end's"])
def test_padding_as_it_is_published(llama2: Path, tmp_path: Path, pad: str | None) -> None:
    folder = Path(shutil.copytree(llama2, tmp_path / "llm"))
    edit(folder / "tokenizer_config.json", pad_token=pad)
    edit(folder / "config.json", vocab_size=512)  # padded rows are legal
    tokenizer = load_tokenizer(folder, *map(stop_string, TEMPLATES))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)


def chatml(folder: Path) -> None:
    """One token more, <|im_end|>, ends a sequence; </s> is still special, so that no text shows it."""
    edit(folder / "config.json", vocab_size=203)
    document = json.loads((folder / "tokenizer.json").read_text())
    added = document["added_tokens"]
    edit(folder / "tokenizer.json", added_tokens=[*added, added[2] | {"id": 202, "content": "<|im_end|>"}])
    edit(folder / "tokenizer_config.json", eos_token="<|im_end|>")


def test_an_answer_ends_at_the_templates_mark_whatever_ends_a_sequence(folder: Path) -> None:
    assert end_tokens(load_tokenizer(folder), "</s>") == [2]
    chatml(folder)
    tokenizer = load_tokenizer(folder, "</s>")
    assert tokenizer.decode([50, 2], skip_special_tokens=True) == tokenizer.decode([50])
    assert end_tokens(tokenizer, "</s>") == [2, 202]
    assert end_tokens(tokenizer, "###") == [202], "seen in the text"


def test_an_end_that_the_tokenizer_cannot_say(folder: Path) -> None:
    """Neither as a token of its own, nor in the text that its tokens show."""
    load_tokenizer(folder, "###")
    said = refused(lambda folder: load_tokenizer(folder, "</s>", "<|eot|>"), folder)
    assert said.startswith(f"{folder / 'tokenizer.json'}: cannot say '<|eot|>', by which the prompt template ends")
