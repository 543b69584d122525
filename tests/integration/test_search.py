"""A search by successive halving: what it keeps is what a full search has, what it stops is a result that says so."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from checkout import Checkout
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.workflow import Workflow

pytestmark = pytest.mark.slow

RATES = [2.0e-3, 5.0e-4, 1.0e-3]
KEEP, AT = [2, 1], [0.3, 0.7]
"""Of the three steps of the tiny scale, one and two."""
HALVING = f"search={{keep: {KEEP}, at: {AT}}}"
ITEM = {
    "title": "A search",
    "columns": ["Flickr30k"],
    "layout": "rows-across",
    "emphasis": "none",
    "llms": ["vicuna-7b"],
    "rows": [
        {"title": "{rate}", "method": "finetune", "data": "80K", "sweep": True},
        {"title": "Chosen", "method": "finetune", "data": "80K"},
    ],
}
TABLE = "tables/tableA1.csv"


@pytest.fixture(scope="module")
def halved(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The checkout with three learning rates after a search by halving, without a result of another search."""
    root = tmp_path_factory.mktemp("halved") / "checkout"
    shutil.copytree(made.root, root)
    checkout = Checkout(root)
    for stage in ("finetune", "predict", "score-captions", "select", ".works"):
        shutil.rmtree(root / "results" / stage)
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["methods"]["finetune"]["learning_rates"] = RATES
    scale["sweeps"] = {"finetune": RATES}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    checkout.write_yaml("workflow/report_items/tableA1.yaml", ITEM)
    printed = checkout.snakemake("-c2", TABLE, "tables/tableA1.md", "--config", HALVING)
    assert "Error" not in printed
    return checkout


def _plan(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, search: object) -> Plan:
    monkeypatch.chdir(checkout.root)
    plan = Plan(Study.read(checkout.root, {"search": search}))
    plan.report_item("tableA1")
    return plan


def _places(checkout: Checkout) -> list[dict[str, object]]:
    (folder,) = checkout.results("select")
    found: list[dict[str, object]] = json.loads((folder / "selection.json").read_text())["candidates"]
    return found


def test_one_goes_to_the_end_and_the_others_say_where_they_stopped(halved: Checkout) -> None:
    one = sorted(_places(halved), key=lambda one: one.get("stopped_at", 3))
    assert [(each.get("stopped_at"), each.get("place")) for each in one] == [(1, 3), (2, 2), (None, None)]
    stopped = [path.parent for path in (halved.root / "results/finetune").glob("*/stopped.json")]
    assert len(stopped) == 3, "one to 0.7, and two to the end"
    for folder in stopped:
        assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "stopped.json"]
    asked = [json.loads(path.read_text()) for path in (halved.root / "results/predict").glob("*/manifest.json")]
    assert len([one for one in asked if one["wall_seconds"] < 1 and "no_model" in one["metrics"]]) == 3
    left = [path for path in (halved.root / "results/.scratch").iterdir() if path.is_dir()]
    assert left == [], "a checkpoint goes with the next round, or with the candidate"
    assert halved.pending(TABLE, "--config", HALVING) == {}


def test_the_table_its_notes_and_trace_say_how_was_searched_and_who_stopped(halved: Checkout) -> None:
    text = (halved.root / "tables/tableA1.md").read_text()
    assert "stopped at step 1, place 3" in text and "stopped at step 2, place 2" in text
    how = "successive halving (the best 2 at 0.3 of the steps, the best 1 at 0.7 of the steps)"
    assert f"Searched by {how}." in text
    with (halved.root / TABLE).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["Flickr30k stopped at"] for row in rows) == ["", "", "1", "2"]
    assert [row["selected_on"] for row in rows if row["method"] == "Chosen"] == [f"Flickr30k test, {how}"]
    (folder,) = halved.results("select")
    assert json.loads((folder / "manifest.json").read_text())["settings"]["search"] == how
    traced = halved.run("lntune", "trace", TABLE, "Chosen", "Flickr30k", "--config", HALVING)
    assert "not chosen, learning rate" in traced and "stopped at step 1, place 3: finetune/" in traced
    assert "by CIDEr on Flickr30k test; the best 1 go on" in traced
    assert "all right" in halved.run("lntune", "verify", TABLE, "--config", HALVING)


def test_what_was_not_kept_asks_for_no_gpu(halved: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(halved.root, root)
    scale = Checkout(root).yaml("workflow/scales/tiny.yaml")
    gpus = {"threads": 1, "mem_mb": 100_000, "runtime": 600, "gpus": 4}
    scale["execution"]["stages"] = dict.fromkeys(("finetune", "predict"), gpus)
    Checkout(root).write_yaml("workflow/scales/tiny.yaml", scale)
    plan = _plan(Checkout(root), monkeypatch, {"keep": KEEP, "at": AT})
    ended = [node for node in plan.nodes() if node.stage == "finetune" and "-80K-" in node.label]
    stopped = [node for node in ended if (root / "results/finetune" / node.name / "stopped.json").is_file()]
    shutil.rmtree(root / "results/.works")
    for folder in [root / "results/predict", *(root / "results/finetune" / node.name for node in stopped)]:
        shutil.rmtree(folder)
    monkeypatch.chdir(root)
    workflow = Workflow(root, {"search": {"keep": KEEP, "at": AT}, "report_items": ["tableA1"]}, in_job=True)
    gpu = {node: workflow.resources["gpu"](SimpleNamespace(result=node.name)) for node in workflow.plan.nodes()}
    names = {node.name for node in stopped}
    without = {node.name for node in gpu if node.stage == "finetune" and gpu[node] == 0} & {one.name for one in ended}
    assert names <= without and len(names) == 3
    resting = [n for n in gpu if n.stage == "predict" and {one.name for one in n.players("tuned")} & names]
    assert len(resting) == 3 and {gpu[node] for node in resting} == {0}


def test_a_full_search_and_halving_link_what_the_other_has_trained(
    halved: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training from the start gives the bytes of what was done in three parts."""
    (best,) = [one["learning_rate"] for one in _places(halved) if one["CIDEr"] is not None]
    names = {}
    for search in ("full", {"keep": KEEP, "at": AT}):
        nodes = _plan(halved, monkeypatch, search).nodes()
        (names[str(search)],) = [n.name for n in nodes if n.label == f"vicuna-7b-finetune-80K-{best:g}"]
    full, kept = (halved.root / "results/finetune" / name for name in names.values())
    assert full != kept
    files = ("tuned.safetensors", "metrics.jsonl")
    wanted = {name: (kept / name).read_bytes() for name in files}
    manifest = json.loads((kept / "manifest.json").read_text())
    assert manifest["origin"] is None and manifest["metrics"]["resumed_at"] == 2 and manifest["metrics"]["steps"] == 3

    def made(folder: Path, search: str) -> str | None:
        halved.snakemake("-c2", "--config", search, "--", f"results/finetune/{folder.name}/manifest.json")
        assert {name: (folder / name).read_bytes() for name in files} == wanted
        origin = json.loads((folder / "manifest.json").read_text())["origin"]
        return origin and f"{origin['label']}-{origin['id']}"

    assert made(full, "search=full") == kept.name
    for gone in (full, kept, halved.root / "results/.works"):
        shutil.rmtree(gone)
    assert made(full, "search=full") is None
    assert made(kept, HALVING) == full.name
