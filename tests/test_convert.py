"""Vicuna's way of being published, in miniature: pickled shards and a SentencePiece model, converted and compared."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lntune.model.llm import load_llm, load_tokenizer
from stage_runs import refusal, run

TEXT = "the image of a cat and two dogs on red grass near an old house what is there colour number yes no"
WORDS = TEXT.split()


def train_sentencepiece(folder: Path, size: int = 400, **others: Any) -> Path:
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
    return folder / "tokenizer.model"


@pytest.fixture
def vicuna(tmp_path: Path) -> Path:
    """A tiny LLaMA as two pickled shards with an index, the buffers of early checkpoints among the tensors."""
    folder = tmp_path / "vicuna"
    folder.mkdir()
    train_sentencepiece(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=2048, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    config.save_pretrained(folder)
    state = LlamaForCausalLM(config).half().state_dict()
    state |= {f"model.layers.{k}.self_attn.rotary_emb.inv_freq": torch.ones(4) for k in range(2)}
    names = sorted(state)
    shards = {f"pytorch_model-0000{k + 1}-of-00002.bin": names[k::2] for k in range(2)}
    for file, held in shards.items():
        torch.save({name: state[name] for name in held}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def test_every_tensor_comes_out_and_the_model_loads(vicuna: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    metrics = run(out, "convert", {}, {"llm": vicuna})
    assert metrics["files"] == 2 and metrics["vocabulary"] == 400
    model = load_llm(out)
    for file in vicuna.glob("*.bin"):
        for name, value in torch.load(file, weights_only=True).items():
            if not name.endswith("inv_freq"):
                assert torch.equal(model.state_dict()[name], value.float()), name
    assert not list(out.glob("*.bin"))
    run(tmp_path / "again", "convert", {}, {"llm": vicuna})
    assert all((tmp_path / "again" / path.name).read_bytes() == path.read_bytes() for path in out.iterdir())


def test_the_tokenizer_is_that_of_sentencepiece(vicuna: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, "convert", {}, {"llm": vicuna})
    tokenizer = load_tokenizer(out)
    plain = sentencepiece.SentencePieceProcessor(model_file=str(vicuna / "tokenizer.model"))
    generator = random.Random(1)
    alphabet = ["the", "cat", " ", "  ", "\n", "é", "漢", "😀", "7", "12", "?", "'s", "Zq", "\t", *WORDS]
    for _ in range(400):
        text = "".join(generator.choices(alphabet, k=generator.randrange(1, 12)))
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == plain.encode(text), text
        assert tokenizer.decode(ids) == plain.decode(ids), text
    behind = tokenizer("yes</s>the cat", add_special_tokens=False)["input_ids"]
    assert behind == [*plain.encode("yes"), 2, *plain.encode("the cat")]


def test_code_in_a_pickle_is_not_run(vicuna: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Evil()}, vicuna / "pytorch_model-00001-of-00002.bin")
    said = refusal(tmp_path / "out", "convert", {}, {"llm": vicuna})
    assert "pytorch_model-00001-of-00002.bin: is not a file of tensors alone" in said
    assert not (tmp_path / "ran").exists()


def test_what_is_wrong_is_one_line(vicuna: Path, tmp_path: Path) -> None:
    def refused(because: str) -> None:
        folder = tmp_path / because.replace(" ", "-").replace(";", "")
        assert because in refusal(folder, "convert", {}, {"llm": vicuna})

    index = vicuna / "pytorch_model.bin.index.json"
    text = index.read_text()
    index.write_text(text.replace("pytorch_model-00001", "../pytorch_model-00001"))
    refused("leaves the folder")
    index.write_text("{}")
    refused("is not an index of weights")
    index.write_text(text)
    train_sentencepiece(vicuna, 40, model_type="unigram", byte_fallback=False)
    refused("is no byte-pair model")
    (vicuna / "tokenizer.model").write_bytes(b"\xff\xff")
    refused("is not a SentencePiece model")
    (vicuna / "tokenizer.model").unlink()
    refused("needs its SentencePiece model")
    (vicuna / "pytorch_model-00002-of-00002.bin").unlink()
    refused("missing; the index names it")
    index.unlink()
    refused("nothing to convert")
