"""Vicuna's way of being published, in miniature: pickled shards and a SentencePiece model, converted and compared."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from lntune.model.llm import load_llm, load_tokenizer
from stage_runs import refusal, run
from tiny_llama import WORDS, train_sentencepiece, write_vicuna


@pytest.fixture
def vicuna(tmp_path: Path) -> Path:
    write_vicuna(tmp_path / "vicuna")
    return tmp_path / "vicuna"


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


def test_what_comes_out_is_the_llm_that_the_config_describes(vicuna: Path, tmp_path: Path) -> None:
    config, shard = vicuna / "config.json", vicuna / "pytorch_model-00001-of-00002.bin"
    document = json.loads(config.read_text())
    config.write_text(json.dumps(document | {"vocab_size": 399}))
    assert "lm_head.weight (400, 64), not (399, 64)" in refusal(tmp_path / "rows", "convert", {}, {"llm": vicuna})
    config.write_text(json.dumps(document))
    train_sentencepiece(vicuna, 401)
    said = refusal(tmp_path / "words", "convert", {}, {"llm": vicuna})
    assert "has the id 400, but the LLM's embedding has 400 rows" in said
    train_sentencepiece(vicuna)
    state = torch.load(shard, weights_only=True)
    torch.save({name: value for name, value in state.items() if name != "lm_head.weight"}, shard)
    assert "lacks lm_head.weight;" in refusal(tmp_path / "head", "convert", {}, {"llm": vicuna})


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
