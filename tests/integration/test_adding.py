"""The examples of docs/adding.md, taken from the page itself."""

import csv
import io
import json
import re
import zipfile
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image
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


# --- a benchmark -----------------------------------------------------------------------------------------------------

FOLDER = "src/lntune/benchmarks/gqa"
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 180, 30), "white": (250, 250, 250)}


def _draw_gqa(folder: Path) -> dict[str, str]:
    """GQA's two files about images of one colour; the right answers by question id."""
    folder.mkdir()
    questions = {}
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for number, (name, colour) in enumerate(COLOURS.items()):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), colour).save(buffer, "JPEG")
            archive.writestr(f"images/n{number}.jpg", buffer.getvalue())
            asked = [("what color is the ground?", name, "query"), (f"is the ground {name}?", "yes", "verify")]
            asked.append(("is there a dog in the picture?", "no", "verify"))
            for place, (text, answer, structural) in enumerate(asked):
                record = {"question": text, "answer": answer, "imageId": f"n{number}"}
                questions[f"20{number}{place}"] = record | {"types": {"structural": structural}, "isBalanced": True}
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(questions))
    return {id: one["answer"] for id, one in questions.items()}


def _add_gqa(checkout: Checkout, files: Path) -> None:
    """What the page says: the folder, the line, the files, the YAML."""
    section = PAGE.split("## A benchmark", 1)[1]
    (checkout.root / FOLDER).mkdir()
    (checkout.root / FOLDER / "__init__.py").touch()
    for code in re.findall(r"```python\n(# src/.*?)```", section, re.DOTALL):
        path, _, code = code.partition("\n")
        (checkout.root / path.removeprefix("# ")).write_text(code)
    assert {path.name for path in (checkout.root / FOLDER).glob("*.py")} == {
        "__init__.py", "questions.py", "score.py", "descriptor.py",
    }  # fmt: skip
    line = _block("**The line**", "python")
    checkout.edit("src/lntune/benchmarks/registry.py", '    "pope",\n', f'    "pope",\n{line}')
    blocks = dict(block.split("\n", 1) for block in re.findall(r"```yaml\n# (.*?)```", section, re.DOTALL))
    checkout.edit("workflow/scales/tiny.yaml", "\nsources:\n", f"\nsources:\n{blocks['sources']}")
    checkout.edit("workflow/scales/tiny.yaml", "\nbenchmarks:\n", f"\nbenchmarks:\n{blocks['benchmarks']}")
    checkout.edit("workflow/protocols/modern.yaml", "\nbenchmarks:\n", f"\nbenchmarks:\n{blocks['protocol']}")
    (checkout.root / "workflow/report_items/gqa.yaml").write_text(blocks["workflow/report_items/gqa.yaml"])
    checkout.run("lntune", "pin", "gqa", str(files), "--about", "GQA, testdev balanced", "--licence", "CC-BY-4.0")


@pytest.mark.slow
def test_a_benchmark(copy: Checkout, tmp_path: Path) -> None:
    right = _draw_gqa(tmp_path / "files")
    before = copy.pending("tables/tiny.csv")
    _add_gqa(copy, tmp_path / "files")
    assert copy.pending("tables/tiny.csv") == before, "nothing that was finished has another name"
    counts = copy.pending("tables/gqa.csv")
    assert counts == {
        "fetch": 1, "questions_gqa": 1, "predict": 2, "score_gqa": 2, "table": 1, "publish": counts["publish"],
    }  # fmt: skip
    copy.snakemake("-c2", "tables/gqa.csv")
    with (copy.root / "tables/gqa.csv").open() as file:
        rows = list(csv.DictReader(file))
    (questions,) = copy.results("questions-gqa")
    scores = {path.name: path for path in copy.results("score-gqa")}
    for row, score in zip(
        rows, (next(p for n, p in scores.items() if m in n) for m in ("finetune", "layernorm")), strict=True
    ):
        said = {one["questionId"]: one["prediction"] for one in json.loads((score / "predictions.json").read_text())}
        assert said.keys() == right.keys()
        accuracy = 100 * sum(said[id] == answer for id, answer in right.items()) / len(right)
        assert row["GQA"] == f"{accuracy:.2f}"
        low, high = map(float, row["GQA 95% interval"].split(".."))
        assert low <= accuracy <= high
        official = questions / "testdev_balanced_questions.json"
        printed = copy.run("lntune", "score", "gqa", str(official), str(score / "predictions.json"))
        assert json.loads(printed) == {"accuracy": pytest.approx(accuracy)}
    traced = copy.run("lntune", "trace", "gqa", rows[0]["method"], "GQA", "--show", "3")
    assert f"GQA = {rows[0]['GQA']}" in traced and "the value is accuracy" in traced and "12 questions" in traced
    assert "3 of 12 questions" in traced and "testdev_balanced_questions.json" in traced
    verified = copy.run("lntune", "verify", "tables/gqa.csv")
    assert verified.rstrip().endswith("all right"), verified


def test_a_benchmark_that_is_misspelt_is_one_line(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    _draw_gqa(tmp_path / "files")
    _add_gqa(checkout, tmp_path / "files")
    checkout.edit("workflow/report_items/gqa.yaml", "[GQA, POPE]", "[GQAA, POPE]")
    printed = checkout.run("lntune", "plan", "tables/gqa.csv", code=1)
    assert "workflow/report_items/gqa.yaml: columns[0]: unknown column 'GQAA' (did you mean 'GQA'?; known: " in printed
    checkout.edit("workflow/report_items/gqa.yaml", "[GQAA, POPE]", "[GQA, POPE]")
    checkout.edit("workflow/protocols/modern.yaml", "\n  gqa: {", "\n  gqaa: {")
    printed = checkout.run("lntune", "plan", "tables/gqa.csv", code=1)
    assert "workflow/protocols/modern.yaml: benchmarks.gqaa: unknown key (did you mean benchmarks.gqa?)" in printed
