"""The demo's weights: what the repository carries is what the catalogue says and can do its work; the recipe runs."""

import hashlib
import json

import pytest
import yaml

from checkout import ROOT, copy_checkout
from lntune.config.catalog import Catalog
from lntune.config.load import load

WEIGHTS = ROOT / "workflow" / "weights"
LLMS = ("vicuna-7b", "llama2-7b", "llama2-chat-7b", "llama2-13b", "llama2-chat-13b")


def test_every_file_is_that_of_the_catalogue() -> None:
    entries = load(ROOT / "workflow" / "catalog.yaml", Catalog).entries
    total = 0
    for name in (*LLMS, "clip", "imagenet-vit"):
        for file in entries[f"demo-{name}"].files.values():
            content = (ROOT / file.path).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256), file.path
            total += file.bytes
    assert total <= 16 * 2**20


@pytest.mark.parametrize("name", LLMS)
def test_an_llm_passed_its_examination_in_words(name: str) -> None:
    record = json.loads((WEIGHTS / name / "record.json").read_text())
    assert record["stage"] == "train-llm" and record["metrics"]["existence"] >= 99
    assert record["metrics"]["place"] >= 95


@pytest.mark.slow
def test_the_recipe_runs(tmp_path) -> None:
    """All seven at a few steps, in a checkout of their own; the kept weights stay as they are."""
    checkout = copy_checkout(tmp_path / "checkout")
    recipes = checkout.yaml("workflow/demo_weights.yaml")
    for recipe in recipes["llms"].values():
        recipe["steps"] = 2
    for recipe in (*recipes["clip"].values(), *recipes["vit"].values()):
        recipe |= {"steps": 2, "pictures": 64, "batch": 16}
    for shared in (recipes["pretraining"], recipes["tuning"]):
        shared |= {"batch": 4, "questions": 8}
    (checkout.root / "few.yaml").write_text(yaml.safe_dump(recipes, sort_keys=False))
    before = (checkout.root / "workflow/catalog.yaml").read_bytes()
    run = ("-s", "workflow/demo_weights.smk", "-c2", "--config", "recipes=few.yaml")
    checkout.snakemake(*run)
    assert len(checkout.results("train-llm")) == 5
    for result in checkout.results("train-llm"):
        assert (result / "model.safetensors").is_file() and (result / "examination.json").is_file()
    assert [path.name.rpartition("-")[0] for path in checkout.results("train-vit")] == ["imagenet-vit"]
    assert (checkout.root / "workflow/catalog.yaml").read_bytes() == before
    assert "Nothing to be done" in checkout.snakemake(*run)
