"""Folders that a config names: odd ones work or are one line; and what a scale leaves out of the one it builds on."""

from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT, Checkout, copy_checkout
from lntune.errors import UserError
from lntune.plan.node import closure
from lntune.plan.plan import Plan
from lntune.plan.study import Study


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/results", "/home/me/results"),
        ("$HOME/r", "/home/me/r"),
        ("${HOME}/r", "/home/me/r"),
        ("my store/r", "my store/r"),
        ("über [a] 'b' \"c\" *", "über [a] 'b' \"c\" *"),
        ("../results/", "../results"),
    ],
)
def test_a_store_as_people_write_it(given: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Study.read(ROOT, {"store": given}).store == Path(meant)
    copies = Study.read(ROOT, {"copies": {"demo-clip": given}}).copies_folder("demo-clip")
    assert copies == ROOT / meant


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("st{user}", "name a folder without '{'"),
        ("a<stage>", "name a folder without '<'"),
        ("s3://bucket/r", "name a folder without '://'"),
        ("two\nlines", "name a folder without"),
        ("$NOT_SET_HERE/r", "the variable NOT_SET_HERE is not set"),
        ("~nobody-of-this-name/r", "no home folder is known"),
    ],
)
def test_a_store_that_is_none_is_one_line(given: str, told: str) -> None:
    study = Study.read(ROOT, {"store": given})
    with pytest.raises(UserError, match="store: ") as raised:
        _ = study.store
    assert told in str(raised.value) and "config.yaml" in str(raised.value)


def write_scale(checkout: Checkout, **differs: Any) -> Study:
    checkout.write_yaml("workflow/scales/less.yaml", {"extends": "demo", **differs})
    items = ["table1", "table2", "table4", "tableA1", "figure4"]
    return Study.read(checkout.root, {"scale": "less", "report_items": items})


def test_what_a_scale_leaves_out_of_its_base_is_left_out_of_tables_and_figures(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    gone = {"llms": dict.fromkeys(["llama2-7b", "llama2-chat-7b", "llama2-13b"]), "methods": {"lora": None}}
    study = write_scale(checkout, **gone)
    assert study.settings.report_items == ("table1", "figure4"), "table2, table4 and tableA1 show llama2-7b and 13b"
    table = study.report_item("table1")
    assert [one.llm for one in table.llms] == ["vicuna-7b", "llama2-chat-13b"]
    assert [row.method for row in table.rows] == ["finetune", "attn-qv", "attn-mlp", "layernorm", "layernorm-simp"]
    assert "table2" not in study.report_items() and "table3" in study.report_items()
    with pytest.raises(UserError, match=r"table2\.yaml: .*less\.yaml leaves out all of its llms or rows; "):
        study.report_item("table2")
    plan = Plan(study)
    assert {node.stage for node in closure([plan.report_item(name) for name in ("claims", "comparison")])} >= {"table"}
    without = write_scale(checkout, methods={"layernorm": None}, sweeps={"layernorm-simp": None})
    assert without.report_item("table4").paired_with is None, "its row is not there"  # type: ignore[union-attr]
    assert "tableA1" not in without.settings.report_items and "table4" in without.settings.report_items


def test_a_misspelt_name_is_no_name_that_was_left_out(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    checkout.edit("workflow/report_items/table1.yaml", "llms: [vicuna-7b", "llms: [vicunna-7b")
    with pytest.raises(UserError, match=r"llms\[0\]: unknown llm 'vicunna-7b' \(did you mean 'vicuna-7b'"):
        write_scale(checkout, llms={"llama2-7b": None})
