"""The paper's scale from an empty store to a table, its own YAML and code, on small files that are served from here.

Every catalogue entry of the study keeps its name, its files and its kind (hub, plain address, gated, pickled); only the
address and the bytes are others: a LLaMA 2 and a Vicuna in miniature, the demo's CLIP, and drawn data sets in the
official layouts. What differs in the scale's YAML is the number of samples, of learning rates and of GPUs.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from checkout import ROOT, Checkout, copy_checkout, run_python
from faulty_server import FaultyServer
from lntune.stages.draw import draw_set
from local_hub import LocalHub
from tiny_llama import VOCABULARY, write_llama2, write_vicuna

pytestmark = pytest.mark.slow

TOKEN = "hf_SecretOfTheMiniature"
LLAMA, VICUNA = "meta-llama/Llama-2-7b-hf", "lmsys/vicuna-7b-v1.1"
TINY_LLAMA = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
SHAPE = {"hidden": 64, "intermediate": 172, "layers": 3, "heads": 4, "vocabulary": VOCABULARY}
SIZES = {"pretrain": 32, "instruct": 48, "coco": 60, "flickr30k": 60, "vqav2": 6, "pope": 4, "mme": 1}
DATASETS = {"pretrain": "llava-pretrain", "instruct": "llava-instruct", "flickr30k": "flickr30k", "mme": "mme"}

REPORT_ITEM = """\
title: "Miniature: the paper's path"
columns: [MME, VQAv2, MSCOCO, Flickr30k, POPE]
llms: [vicuna-7b, llama2-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
"""


SMALL_ITEM = """\
title: "Miniature: one row"
columns: [POPE]
llms: [vicuna-7b, llama2-7b]
rows:
  - {title: Finetune-80K, method: finetune, data: 80K}
"""

ONE_RANK = {"stages": {"connector": {"gpus": 1}, "finetune": {"gpus": 1}}}
ONE_RATE = {"finetune": {"learning_rates": [1.0e-3]}}
SCALES: dict[str, dict[str, Any]] = {
    "paper-lean": {"llms": {"llama2-7b": None}, "execution": ONE_RANK},
    "pilot": {"methods": ONE_RATE, "execution": ONE_RANK},
    "workstation": {"methods": ONE_RATE, "data": {"connector": {"samples": 32}}, "execution": {"prediction_batch": 4}},
}
"""What makes the scales that build on the paper's small, once the paper's own is (:func:`shrink`)."""


@dataclass(frozen=True)
class Miniature:
    """A checkout at the paper's scale, and the servers that its catalogue names."""

    checkout: Checkout
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        """Run a module of the checkout with the token in the environment; all it printed."""
        done = run_python(self.checkout.root, self.environment, *arguments, timeout=900)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout


def draw_sets(folder: Path) -> dict[str, Path]:
    """Every data set of the study, drawn small."""
    found = {}
    for name, images in SIZES.items():
        found[name] = folder / name
        found[name].mkdir(parents=True)
        draw_set(name, found[name], images, 0, {"coco": folder / "coco"} if name in ("vqav2", "pope") else {})
    return found


def fill_hub(hub: Path, sets: dict[str, Path], entries: dict[str, Any]) -> None:
    """The hub's repositories, by the catalogue's own names."""
    write_llama2(hub / "models" / LLAMA)
    write_vicuna(hub / "models" / VICUNA)
    write_llama2(hub / "models" / TINY_LLAMA, sharded=False)
    clip = hub / "models" / entries["clip-vit-l-14"]["hub"]["repo"]
    shutil.copytree(ROOT / "workflow" / "weights" / "clip", clip, ignore=shutil.ignore_patterns("record.json"))
    config = json.loads((clip / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True  # as the hub's, or it is refused
    (clip / "open_clip_config.json").write_text(json.dumps(config))
    for name, entry in DATASETS.items():
        repository = hub / "datasets" / entries[entry]["hub"]["repo"]
        repository.mkdir(parents=True, exist_ok=True)
        for file, place in entries[entry]["files"].items():
            if "url" not in place:
                shutil.copy(sets[name] / file, repository / file)


def serve_here(entries: dict[str, Any], sets: dict[str, Path], server: FaultyServer) -> None:
    """Plain addresses lead to this machine, the hub's to its newest commit; what was pinned is recorded instead."""
    drawn = {"coco": "coco", "flickr30k": "flickr30k", "llava-instruct": "instruct", "pope": "pope", "vqav2": "vqav2"}
    for name, entry in entries.items():
        if name.startswith("demo-"):
            continue
        if "hub" in entry:
            entry["hub"]["revision"] = "main"
        if "shape" in entry:
            entry["shape"] = SHAPE
        for file, place in entry["files"].items():
            place.pop("bytes", None)
            place.pop("sha256", None)
            if "url" in place:
                path = f"/{name}{urlsplit(place['url']).path}"
                server.files[path] = (sets[drawn[name]] / file).read_bytes()
                place["url"] = server.url(path)


def shrink(scale: dict[str, Any]) -> None:
    """Few samples, one learning rate, two ranks a job, on the CPU; all else is the paper's."""
    scale["connector"]["schedule"] |= {"epochs": 1.0, "global_batch": 16}
    scale["finetune"]["global_batch"] = 16
    for method in scale["methods"].values():
        method["learning_rates"] = [1.0e-3]
    for name in ("Conv.20K", "Detail.20K", "Reasoning.20K"):
        scale["data"][name]["samples"] = 8
    for stage in ("connector", "finetune"):
        scale["execution"]["stages"][stage] |= {"gpus": 2, "threads": 1}
    scale["execution"] |= {"device": "cpu", "micro_batch": 4, "checkpoint_steps": 1, "one_gpu_hours": None}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Miniature]:
    root = tmp_path_factory.mktemp("paper")
    checkout = copy_checkout(root / "checkout")
    catalog = checkout.yaml("workflow/catalog.yaml")
    sets = draw_sets(root / "sets")
    fill_hub(root / "hub", sets, catalog["entries"])
    with FaultyServer() as server, LocalHub(root / "hub", gated={LLAMA: {TOKEN}}) as hub:
        serve_here(catalog["entries"], sets, server)
        checkout.write_yaml("workflow/catalog.yaml", catalog)
        scale = checkout.yaml("workflow/scales/paper.yaml")
        shrink(scale)
        checkout.write_yaml("workflow/scales/paper.yaml", scale)
        for name, text in (("tiny", REPORT_ITEM), ("small", SMALL_ITEM)):
            (checkout.root / f"workflow/report_items/{name}.yaml").write_text(text)
        checkout.edit("config.yaml", "scale: tiny ", "scale: paper ")
        checkout.edit("config.yaml", "protocol: modern ", "protocol: paper ")
        inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        own = {"PYTHONPATH": str(checkout.root / "src"), "HF_TOKEN": TOKEN, "COLUMNS": "200"}
        made = Miniature(checkout, inherited | hub.environment | own)
        made.run("snakemake", "-c2", "tables/tiny.csv", "tables/data.csv")
        yield made


def manifests(miniature: Miniature, stage: str) -> list[dict[str, Any]]:
    folders = miniature.checkout.results(stage)
    return [json.loads((folder / "manifest.json").read_text()) for folder in folders]


def test_the_table_is_whole_and_says_what_it_is(miniature: Miniature) -> None:
    rows = (miniature.checkout.root / "tables/tiny.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["MM-VICUNA-7B", "MM-LLAMA2-7B"]
    assert all(all(row.split(",")) and row.endswith("paper,paper,ours") for row in rows[1:])
    assert miniature.run("snakemake", "-n", "tables/tiny.csv").count("Nothing to be done") == 1


def test_everything_trained_on_two_ranks_with_the_stages_of_zero(miniature: Miniature) -> None:
    assert len(manifests(miniature, "connector")) == len(manifests(miniature, "finetune")) == 2
    for stage, zero in (("connector", 2), ("finetune", 3)):
        for manifest in manifests(miniature, stage):
            execution = manifest["execution"]
            assert (execution["engine"], execution["ranks"], execution["zero_stage"]) == ("deepspeed", 2, zero)
            assert manifest["machine"]["ranks"] == 2 and manifest["settings"]["training"]["precision"] == "tf32"


def test_pickles_end_where_they_are_converted(miniature: Miniature) -> None:
    (converted,) = miniature.checkout.results("convert")
    assert {path.suffix for path in converted.iterdir()} == {".json", ".safetensors"}
    held = {name for manifest in manifests(miniature, "fetch") for name in manifest["outputs"] if name.endswith(".bin")}
    assert held == {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}


def test_what_was_downloaded_is_recorded_and_the_token_stays_outside(miniature: Miniature) -> None:
    root = miniature.checkout.root
    lock = miniature.checkout.yaml("workflow/catalog.lock.yaml")["entries"]
    assert len(lock["llama2-7b"]) == 8 and len(lock["coco"]) == 2 and "llama2-13b" not in lock
    for path in root.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    told = miniature.run("lntune", "trace", "tiny", "MM-LLAMA2-7B: Finetune-80K", "POPE")
    assert LLAMA in told and "recorded at the first download" in told


def test_what_was_left_out_is_counted(miniature: Miniature) -> None:
    text = (miniature.checkout.root / "tables/data.csv").read_text()
    kept = {line.split(",")[0]: line for line in text.splitlines()}
    assert {"connector", "80K", "Conv.20K", "Detail.20K", "Reasoning.20K", "MME", "POPE"} <= kept.keys()
    assert "detail_23k.json: 15 records instead of 23,240 (-23,225)" in kept["Detail.20K"]
    assert "llava_instruct_80k.json: 48 records instead of 80,000 (-79,952)" in kept["80K"]


def test_all_of_it_verifies(miniature: Miniature) -> None:
    assert "all right" in miniature.run("lntune", "verify", "tables/tiny.csv", "tables/data.csv", "-j", "1")


def test_scales_that_build_on_the_papers_run_from_an_empty_store_to_a_table(miniature: Miniature) -> None:
    """Training in bf16 weights by DeepSpeed, or in plain bf16; prediction in bf16, in batches of the scale's size."""
    root = miniature.checkout.root
    for name, differs in SCALES.items():
        miniature.checkout.write_yaml(f"workflow/scales/tiny-{name}.yaml", {"extends": name, **differs})
        config = ("--config", f"scale=tiny-{name}", "store=others")
        miniature.run("snakemake", "-c2", "tables/small.csv", *config)
        (row,) = (root / "tables/small.csv").read_text().splitlines()[1:]
        plain = name == "workstation"
        assert row.startswith("MM-TINYLLAMA-1.1B," if plain else "MM-VICUNA-7B,") and f",tiny-{name},ours" in row
    stored = [json.loads(path.read_text()) for path in (root / "others").glob("*/*/manifest.json")]
    tuned, asked = ([one["settings"] for one in stored if one["stage"] == stage] for stage in ("finetune", "predict"))
    assert {one["training"]["precision"] for one in tuned} == {"bf16", "bf16-weights"}
    assert {(one["precision"], one["batch_size"]) for one in asked} == {("bf16", 32)}
