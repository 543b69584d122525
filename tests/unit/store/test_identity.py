"""Canonical texts, hashes, versions and ids: pinned, because a change of one would rename every result."""

import hashlib
import math
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from lntune.errors import UserError
from lntune.store.fingerprint import versions
from lntune.store.identity import FileRecord, Identity, canonical_json, digest, hash_file, hash_tree
from lntune.store.manifest import Store, slug


def test_canonical_text_is_pinned() -> None:
    value = {"b": [1, 1.0, "1", True, None], "a": {"ü": 1e-4, "x": (2, -0.5)}}
    assert canonical_json(value) == ('{"a":{"x":[2,-0.5],"\\u00fc":0.0001},"b":[1,1.0,"1",true,null]}')
    assert digest(value) == "6f962167dd9ed539f13d2df9dc2c93f5019ca63ba4f6702026820228710d488c"
    assert digest({}) == blake3(b"{}").hexdigest()


def test_order_of_keys_does_not_count_and_types_do() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"rate": 1e-4}) == digest({"rate": 0.0001})
    alike = [1, 1.0, "1", True, [1], {"1": 1}, None, "None", "null"]
    assert len({digest(value) for value in alike}) == len(alike)


class Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": {1: 2}}, "value.a has the key 1"),
        ({"a": {1, 2}}, "value.a is a builtins.set"),
        ([Path("x")], "value[0] is a pathlib"),
        (b"x", "value is a builtins.bytes"),
        (np.float64(1.0), "value is a numpy.float64"),
        (Number.ONE, "Number"),
    ],
)
def test_what_json_has_no_type_for_is_refused(value: object, said: str) -> None:
    with pytest.raises(TypeError) as caught:
        canonical_json(value)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"value\.loss is"):
        canonical_json({"loss": value})


def test_file_hashes_equal_blake3_at_every_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size in (0, 1, 1000, (1 << 20) - 1, 1 << 20, 3_000_001):
        content = hashlib.shake_128(str(size).encode()).digest(size)
        path.write_bytes(content)
        assert hash_file(path) == blake3(content).hexdigest()


def test_tree_is_sorted_and_complete(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "deep" / "x").write_bytes(b"abc")
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"h")
    assert list(hash_tree(tmp_path)) == [".hidden", "a.txt", "b/deep/x"]
    tree = hash_tree(tmp_path, ignore={"a.txt"})
    assert tree["b/deep/x"] == FileRecord(bytes=3, blake3=blake3(b"abc").hexdigest())
    assert list(tree) == [".hidden", "b/deep/x"]


@pytest.mark.parametrize("to", ["file", "folder", "nowhere"])
def test_links_are_refused(to: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(to)
    with pytest.raises(UserError, match="link is a link or a device"):
        hash_tree(tmp_path)


def test_names_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9").write_text("x")
    with pytest.raises(UserError, match="cannot be printed"):
        hash_tree(tmp_path)


IDENTITY = Identity(
    stage="finetune",
    settings={"learning_rate": 1e-4, "method": "lora", "seed": 0},
    code={"lntune.stages.finetune": "ab" * 32},
    packages={"torch": "2.14.1"},
    inputs={"llm": "0123456789ab", "candidates": ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]},
)


def test_the_id_is_pinned() -> None:
    assert IDENTITY.id == "b26bfea3fefd" == digest(IDENTITY.document())[:12]


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "connector"},
        {"settings": {"learning_rate": 1e-4, "method": "lora", "seed": 0.0}},
        {"code": {"lntune.stages.finetune": "ac" * 32}},
        {"code": {"lntune.stages.finetune2": "ab" * 32}},
        {"packages": {"torch": "2.14.2"}},
        {"inputs": {"llm": "0123456789ab", "candidates": ["bbbbbbbbbbbb", "aaaaaaaaaaaa"]}},
        {"inputs": {"llm": ["0123456789ab"], "candidates": ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]}},
    ],
)
def test_everything_in_it_counts(change: dict[str, object]) -> None:
    assert replace(IDENTITY, **change).id != IDENTITY.id  # type: ignore[arg-type]


def test_order_of_settings_does_not_count() -> None:
    reordered = dict(reversed(list(IDENTITY.settings.items())))
    assert replace(IDENTITY, settings=reordered).id == IDENTITY.id


def test_versions_come_from_the_installation() -> None:
    found = versions(["pytest", "blake3"])
    assert list(found) == ["blake3", "pytest"]
    assert found["pytest"] == pytest.__version__
    with pytest.raises(UserError, match="package 'no-such-package-here' is not installed"):
        versions(["no-such-package-here"])


def test_layout(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.folder("score", "pope-lora", "0123456789ab")
    assert folder == tmp_path / "score" / "pope-lora-0123456789ab"
    assert store.manifest("score", "pope-lora", "0123456789ab") == folder / "manifest.json"
    assert store.scratch("score", "0123456789ab") == tmp_path / ".scratch" / "score-0123456789ab"
    assert not store.is_done("score", "pope-lora", "0123456789ab")
    for label, id in (("..", "0123456789ab"), ("a/b", "0123456789ab"), ("a", "xyz"), ("", "0123456789ab")):
        with pytest.raises(AssertionError):
            store.folder("score", label, id)


def test_slug() -> None:
    assert slug(["LoRA", 1e-4, "v1 chat", "", "ä/b"]) == "LoRA-0.0001-v1-chat-b"
    assert slug(["..", ".hidden"]) == "hidden"
    assert len(slug(["x" * 500])) == 100
    with pytest.raises(ValueError, match="letter or digit"):
        slug(["", "?"])
