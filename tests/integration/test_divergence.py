"""A search in which a learning rate is too high: candidates whose loss overflows, in one variant all of them."""

import csv
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from checkout import Checkout, ask_for, copy_checkout
from lntune.snakefile.workflow import Workflow

pytestmark = pytest.mark.slow

TOO_HIGH, FINE = 0.9, 1.0e-21
"""Weight decay is such that the first multiplies matrices by -1e20 a step, and the second by 0.9."""
DECAY = 1.0e20
ITEMS = {
    "table3": """\
title: "Two ways to tune"
columns: [MME, MSCOCO, Flickr30k]
emphasis: best
intervals: true
paired_with: Finetune-80K
llms: [vicuna-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
  - {title: LayerNorm-80K, method: layernorm, data: 80K}
""",
    "tableA1": """\
title: "A search"
columns: [Flickr30k]
layout: rows-across
emphasis: none
llms: [vicuna-7b]
rows:
  - {title: "{rate}", method: finetune, data: 80K, sweep: true}
""",
    "figure2": """\
figure: bars
title: "Bars"
columns: [MME, Flickr30k]
llms: [vicuna-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
  - {title: LayerNorm-80K, method: layernorm, data: 80K}
""",
    "figure3": """\
figure: heat-maps
title: "Layers"
llms: [vicuna-7b]
rows:
  - {title: Finetune, method: finetune, data: 80K}
  - {title: LayerNorm, method: layernorm, data: 80K}
""",
    "figure4": """\
figure: gradients
title: "Gradients"
norms: [{norm: input, layer: 11, of: 32}]
llms: [vicuna-7b]
rows:
  - {title: LayerNorm, method: layernorm, data: 80K}
  - {title: Finetune, method: finetune, data: 80K}
""",
}
FINETUNE, LAYERNORM = "MM-VICUNA-7B: Finetune-80K", "MM-VICUNA-7B: LayerNorm-80K"


def searched(root: Path) -> Checkout:
    """A checkout of which full finetuning has one learning rate that is too high, and LayerNorm tuning none other."""
    checkout = copy_checkout(root)
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["methods"]["finetune"]["learning_rates"] = [TOO_HIGH, FINE]
    scale["methods"]["layernorm"]["learning_rates"] = [TOO_HIGH, 0.5]
    scale["finetune"] |= {"weight_decay": DECAY, "epochs": 2.0}
    scale["sweeps"] = {"finetune": [TOO_HIGH, FINE]}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    for name, text in ITEMS.items():
        (root / f"workflow/report_items/{name}.yaml").write_text(text)
    ask_for(root / "config.yaml", *ITEMS)
    return checkout


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The checkout after a run to its end."""
    checkout = searched(tmp_path_factory.mktemp("diverged") / "checkout")
    printed = checkout.snakemake("-c2")
    assert "Error" not in printed
    return checkout


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _result(checkout: Checkout, stage: str, label: str) -> Path:
    (found,) = (folder for folder in checkout.results(stage) if folder.name.rpartition("-")[0] == label)
    return found


def test_a_candidate_that_diverges_is_a_result_without_weights(ended: Checkout) -> None:
    folder = _result(ended, "finetune", "vicuna-7b-finetune-80K-0.9")
    assert sorted(path.name for path in folder.iterdir()) == ["diverged.json", "manifest.json", "metrics.jsonl"]
    (run,) = json.loads((folder / "diverged.json").read_text())
    assert run["learning_rate"] == TOO_HIGH and run["loss"] == "nan" and 1 < run["step"] <= run["steps"]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, run["step"]))
    metrics = json.loads((folder / "manifest.json").read_text())["metrics"]
    assert metrics == {
        "no_model": f"diverged at step {run['step']} of 6 at learning rate 0.9 (loss nan, gradient norm nan)"
    }
    assert not list((ended.root / "results/.scratch").glob("finetune-*/*"))


def test_no_candidate_that_diverged_is_chosen(ended: Checkout) -> None:
    folder = _result(ended, "select", "vicuna-7b-finetune-80K")
    selection = json.loads((folder / "selection.json").read_text())
    bad, good = selection["candidates"]
    assert bad == {"learning_rate": TOO_HIGH, "CIDEr": None, "diverged_at": 4} and good["CIDEr"] > 0
    assert selection["learning_rate"] == good["learning_rate"] == FINE
    assert sorted(path.name for path in (folder / "chosen").iterdir()) == ["metrics.jsonl", "tuned.safetensors"]


def test_what_follows_from_a_diverged_candidate_is_a_result_that_says_the_same(ended: Checkout) -> None:
    """Of its own questions, and of the choice among candidates that all diverged; no weights are anywhere."""
    for stage, label in (
        ("predict", "vicuna-7b-finetune-80K-0.9-flickr30k-test"),
        ("score-captions", "vicuna-7b-finetune-80K-0.9-flickr30k-test"),
        ("predict", "vicuna-7b-layernorm-80K-mme"),
        ("score-mme", "vicuna-7b-layernorm-80K-mme"),
        ("similarity", "vicuna-7b-layernorm-80K"),
    ):
        folder = _result(ended, stage, label)
        assert sorted(path.name for path in folder.iterdir()) == ["diverged.json", "manifest.json"], label
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["wall_seconds"] < 1 and manifest["metrics"]["no_model"].startswith("diverged at "), label
    selection = _result(ended, "select", "vicuna-7b-layernorm-80K")
    assert json.loads((selection / "selection.json").read_text())["learning_rate"] is None
    assert [path.name for path in (selection / "chosen").iterdir()] == ["diverged.json"]
    assert len([*(ended.root / "results").glob("*/*layernorm*/**/*.safetensors")]) == 0


def test_nothing_is_left_to_do_after_a_search_that_diverged(ended: Checkout) -> None:
    assert ended.pending() == {}


def test_the_search_says_at_which_step_a_candidate_diverged(ended: Checkout) -> None:
    text = (ended.root / "tables/tableA1.md").read_text()
    assert "| MM-VICUNA-7B | diverged at step 4 | " in text
    assert "training diverged at step 4 of 6 at learning rate 0.9 (loss nan, gradient norm nan)." in text
    bad, good = _rows(ended.root / "tables/tableA1.csv")
    assert (bad["Flickr30k"], bad["Flickr30k diverged at"]) == ("-", "4")
    assert float(good["Flickr30k"]) > 0 and good["Flickr30k diverged at"] == ""


def test_a_variant_that_always_diverged_is_a_dash_with_a_note_in_tables_and_figures(ended: Checkout) -> None:
    why = "training diverged at every learning rate: 0.9 at step 4, 0.5 at step 4."
    text = (ended.root / "tables/table3.md").read_text()
    assert "| LayerNorm-80K | - | - | - |" in text and f"{LAYERNORM} has no scores: {why}" in text
    full, none = _rows(ended.root / "tables/table3.csv")
    assert none["MME"] == none["Flickr30k"] == none["learning_rate"] == "-" and none["MME diverged at"] == "4; 4"
    assert float(full["Flickr30k"]) > 0 and full["learning_rate"] == f"{FINE:g}"
    bars = {row["method"]: row["MME"] for row in _rows(ended.root / "figures/figure2.csv")}
    assert bars["LayerNorm-80K"] == "-" and float(bars["Finetune-80K"]) > 0
    maps = [row for row in _rows(ended.root / "figures/figure3.csv") if row["method"] == "LayerNorm"]
    assert [row["similarity"] for row in maps] == ["-"]
    assert {row["method"] for row in _rows(ended.root / "figures/figure4.csv")} == {"Finetune"}
    for name in ("figure2", "figure3", "figure4"):
        drawn = " ".join((ended.root / f"figures/{name}.svg").read_text().split())
        assert "diverged at every learning rate" in drawn, name  # words stand in comments beside their outlines


def test_the_comparison_and_the_claims_say_what_diverged(ended: Checkout) -> None:
    text = (ended.root / "tables/comparison.md").read_text()
    assert f"{LAYERNORM} has no figures of ours: training diverged at every learning rate: 0.9 at step 4" in text
    assert "80.89, -, -" in text
    claims = {row["id"]: row for row in _rows(ended.root / "tables/claims.csv") if row["ours_missing"]}
    assert claims and all(
        row["ours"] == "" and "'-', which is no number" in row["ours_missing"] for row in claims.values()
    )
    assert all(f"- {name}: ours is missing: " in (ended.root / "tables/claims.md").read_text() for name in claims)


def test_trace_lists_the_candidates_that_diverged(ended: Checkout) -> None:
    chosen = ended.run("lntune", "trace", "table3", "Finetune-80K", "MSCOCO")
    assert "not chosen, learning rate 0.9, diverged at step 4: finetune/vicuna-7b-finetune-80K-0.9-" in chosen
    none = ended.run("lntune", "trace", "table3", "LayerNorm-80K", "MSCOCO")
    assert "training diverged at every learning rate: 0.9 at step 4, 0.5 at step 4, so there is no model" in none
    assert "not chosen, learning rate 0.5, diverged at step 4: finetune/" in none
    searched = ended.run("lntune", "trace", "tableA1", "MM-VICUNA-7B: 9e-1", "Flickr30k", "--show", "2")
    assert "(loss nan, gradient norm nan), so there is no model" in searched and "nothing was asked" in searched
    assert "diverged at = 4" in ended.run("lntune", "trace", "tableA1", "9e-1", "Flickr30k diverged at")
    assert "learning_rate = -" in ended.run("lntune", "trace", "table3", "LayerNorm-80K", "learning_rate")


def test_verify_and_export_take_results_without_a_model(ended: Checkout, tmp_path: Path) -> None:
    assert "all right" in ended.run("lntune", "verify")
    ended.run("lntune", "export", "table3", str(tmp_path / "table3.zip"))
    with zipfile.ZipFile(tmp_path / "table3.zip") as crate:
        assert any(name.endswith("diverged.json") for name in crate.namelist())


@pytest.fixture
def again(ended: Checkout, tmp_path: Path) -> Checkout:
    """A copy of what has ended, to be edited."""
    shutil.copytree(ended.root, tmp_path / "copy")
    return Checkout(tmp_path / "copy")


def test_the_plan_does_not_take_a_diverged_result_for_the_time_of_a_job(again: Checkout) -> None:
    """Asked of weights once more, since a candidate has another rate, it takes as long as asking others took."""
    scale = again.yaml("workflow/scales/tiny.yaml")
    scale["methods"]["layernorm"]["learning_rates"] = [TOO_HIGH, 1e-2]
    again.write_yaml("workflow/scales/tiny.yaml", scale)
    work = json.loads(again.run("lntune", "plan", "--json", "tables/table3.csv"))
    seconds = {one["name"].rpartition("-")[0]: one["seconds"] for one in work["results"] if one["stage"] == "predict"}
    assert seconds["vicuna-7b-layernorm-80K-mme"] > 0.3, seconds


def test_what_rests_on_a_diverged_candidate_queues_for_no_gpu(again: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the group of a selection that is not made yet, once all of its candidates have diverged."""
    scale = again.yaml("workflow/scales/tiny.yaml")
    gpus = {"threads": 1, "mem_mb": 100_000, "runtime": 600, "gpus": 4}
    scale["execution"]["stages"] = dict.fromkeys(("finetune", "predict", "similarity"), gpus)
    again.write_yaml("workflow/scales/tiny.yaml", scale)
    for stage in ("select", "predict", "similarity", "score-captions", "score-mme"):
        shutil.rmtree(again.root / "results" / stage)
    shutil.rmtree(again.root / "results/.works")
    monkeypatch.chdir(again.root)
    workflow = Workflow(again.root, {"cluster": {"gpu_partition": "big"}}, in_job=True)
    its = [node for node in workflow.plan.nodes() if node.stage in ("predict", "similarity")]
    resources = {name: workflow.resources[name] for name in ("gpu", "slurm_partition")}
    found = {
        node.label: tuple(asked(SimpleNamespace(result=node.name)) for asked in resources.values()) for node in its
    }
    none = {label for label, (gpu, partition) in found.items() if gpu == 0}
    assert none == {label for label in found if "layernorm" in label or "-0.9-" in label}
    assert all(partition == "big" for label, (_, partition) in found.items() if label not in none)
    assert {found[label][1] for label in none if "layernorm" in label} == {None}
