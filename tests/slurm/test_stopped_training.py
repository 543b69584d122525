"""A search on a real Slurm in which one candidate of a method diverges, and the only one of another."""

import csv
import shutil
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from on_slurm import TABLE, on_slurm, one_row, printed_by, start

pytestmark = pytest.mark.slow


def test_a_search_in_which_candidates_diverge_ends_with_its_table(
    cluster: Cluster, made: Checkout, tmp_path: Path
) -> None:
    """Nothing is tried again, and what only says that there is no model queues for no GPU.

    The first method's candidates are tried before, without Slurm, where that takes a third of the time.
    """
    checkout = one_row(tmp_path / "checkout")
    shutil.copytree(made.root / "results", checkout.root / "results")
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["methods"]["finetune"]["learning_rates"] = [0.9, 1.0e-21]  # matrices times -1e20 a step, and times 0.9
    scale["methods"]["layernorm"]["learning_rates"] = [0.9]
    scale["finetune"] |= {"weight_decay": 1.0e20, "epochs": 2.0}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    with (checkout.root / "workflow/report_items/tiny.yaml").open("a") as file:
        file.write("  - {title: LayerNorm-80K, method: layernorm, data: 80K}\n")
    plan = Plan(Study.read(checkout.root, {"store": str(checkout.root / "results")}))
    plan.report_item("tiny")
    (choice,) = [node for node in plan.nodes() if node.stage == "select" and "-finetune-" in node.label]
    tried = [f"results/{score.stage}/{score.name}/manifest.json" for score in choice.players("scores")]
    checkout.snakemake("-c2", *tried)
    on_slurm(checkout, login_node=("score-captions", "table"))
    before = {job.id for job in cluster.jobs()}
    process = start(checkout, cluster, *TABLE)
    try:
        process.wait(900)
    finally:
        process.kill()
    assert process.returncode == 0, printed_by(checkout)[-4000:]
    jobs = [job for job in cluster.jobs() if job.id not in before]
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert len([job for job in jobs if "rule_tune-" in job.comment]) == 1  # the other method's candidate, once
    (none,) = [job for job in jobs if "rule_ask-vicuna-7b-layernorm" in job.comment]
    (some,) = [job for job in jobs if "rule_ask-vicuna-7b-finetune" in job.comment]
    assert (none.partition, none.gpus) == ("cpu", "") and (some.partition, some.gpus) == ("a100", "a100:1")
    with (checkout.root / TABLE[0]).open(newline="") as file:
        full, layernorm = csv.DictReader(file)
    assert float(full["Flickr30k"]) > 0 and full["learning_rate"] == "1e-21"
    assert layernorm["Flickr30k"] == layernorm["learning_rate"] == "-"
    text = (checkout.root / "tables/tiny.md").read_text()
    assert "LayerNorm-80K has no scores: training diverged at step 4 of 6 at learning rate 0.9" in text
