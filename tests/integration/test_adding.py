"""The examples of docs/adding.md, taken from the page itself."""

import csv
import re
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from checkout import ROOT, Checkout, copy_checkout
from lntune.config.report_item import FIGURES, BarsSettings, Emphasis, Layout, RowSettings, TableSettings
from lntune.plan.study import Study
from lntune.plan.targets import files_of

PAGE = (ROOT / "docs" / "adding.md").read_text()


def _block(after: str, language: str) -> str:
    """The first code block in a language behind a heading."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.split(after, 1)[1], re.DOTALL)
    assert found, after
    return found[1]


def _with_examples(folder: Path) -> Checkout:
    """A tiny checkout with the page's data set, table and figure."""
    checkout = copy_checkout(folder)
    data = _block("## A data set", "yaml").replace("750", "48").split("\n", 1)[1]
    checkout.edit("workflow/scales/tiny.yaml", "\nconnector:\n", f"\n{data}connector:\n")
    for name, after in (("mixed", "## A table"), ("mixed-bars", "## A figure")):
        (checkout.root / f"workflow/report_items/{name}.yaml").write_text(_block(after, "yaml"))
    return checkout


@pytest.mark.slow
def test_a_data_set_a_table_and_a_figure(tmp_path: Path) -> None:
    checkout = _with_examples(tmp_path / "checkout")
    checkout.snakemake("-c2", "tables/mixed.csv", "figures/mixed-bars.csv", "figures/mixed-bars.pdf")
    rows, bars = [], []
    for path, found in (("tables/mixed.csv", rows), ("figures/mixed-bars.csv", bars)):
        with (checkout.root / path).open() as file:
            found += csv.DictReader(file)
    assert [row["method"] for row in rows] == ["LayerNorm-Conv. 20K", "LayerNorm-Mixed 20K"]
    assert [bar["method"] for bar in bars] == ["Conversation", "Mixed"]
    for column in ("MSCOCO", "Flickr30k"):
        assert [row[column] for row in rows] == [bar[column] for bar in bars]


def test_the_names_of_tables_and_figures(tmp_path: Path) -> None:
    study = Study.read(_with_examples(tmp_path / "checkout").root)
    assert isinstance(study.report_item("mixed-bars"), BarsSettings)
    for name, folder, suffixes in (("mixed", "tables", "csv md tex"), ("mixed-bars", "figures", "pdf svg png csv")):
        assert files_of(study, name) == [Path(f"{folder}/{name}.{suffix}") for suffix in suffixes.split()]


def test_every_key_of_tables_and_figures_is_explained() -> None:
    explained = {
        word for line in PAGE.splitlines() if line.startswith("| ") for word in re.findall(r"`([\w-]+)[`:]", line)
    }
    keys = {*TableSettings.model_fields, *RowSettings.model_fields, "norms"}
    assert keys - explained == set()
    assert set(FIGURES) <= explained and set(get_args(Layout)) | set(get_args(Emphasis)) <= explained


def test_a_tuning_method(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from transformers import LlamaConfig, LlamaForCausalLM

    from lntune.model import tuning

    space = dict(vars(tuning))
    exec(_block("## A tuning method", "python"), space)
    monkeypatch.setattr(tuning, "METHODS", {**tuning.METHODS, "attn-output": space["attn_output"]})
    shape = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    model = SimpleNamespace(vision=nn.Linear(4, 4), connector=nn.Linear(4, 8), llm=LlamaForCausalLM(shape))
    tuning.apply_method(model, "attn-output", None)
    trained = {name for name, value in model.llm.named_parameters() if value.requires_grad}
    assert trained == {
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.1.self_attn.o_proj.weight",
    }
    assert torch.is_grad_enabled() and model.connector.weight.requires_grad and not model.vision.weight.requires_grad
