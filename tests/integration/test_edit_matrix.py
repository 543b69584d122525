"""The edit matrix of docs/provenance.md: what runs after an edit, counted from Snakemake's own output.

Every row edits a real copy of the project whose tables have been made, at a tiny scale. ``lntune plan`` is held
against ``snakemake -n`` or the run itself on each of them.
"""

import ast
import json
import os
import random
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from checkout import Checkout, copy_checkout, job_counts
from lntune.plan.stages import STAGES

pytestmark = pytest.mark.slow

TABLE = "tables/tiny.csv"
SCALE = "workflow/scales/tiny.yaml"
LLAVA = "src/lntune/data/llava.py"

# Snakemake may have written half a line before.
LINKED = re.compile(rf"({'|'.join(sorted(STAGES, key=len, reverse=True))}) \S+: linked from ")

MODELS = {"connector", "finetune", "predict"}
"""The stages that need a model, hours on GPUs at paper scale."""


@dataclass(frozen=True)
class Ran:
    """What a run did, by rule."""

    computed: dict[str, int]
    linked: dict[str, int]


def planned(checkout: Checkout, *targets: str) -> dict[str, int]:
    """Jobs that ``lntune plan`` lists, by rule."""
    jobs = json.loads(checkout.run("lntune", "plan", *targets, "--json"))["jobs"]
    return {stage.replace("-", "_"): number for stage, number in jobs.items()}


def pending(checkout: Checkout, *targets: str) -> dict[str, int]:
    """Jobs that ``snakemake -n`` lists, without the rule ``all``; ``lntune plan`` must list the same."""
    counts = checkout.pending(*targets)
    counts.pop("all", None)
    assert planned(checkout, *targets) == counts
    return counts


def run(checkout: Checkout, *targets: str) -> Ran:
    """Run what is pending; it is just what ``lntune plan`` announced, and nothing is pending after it."""
    announced = planned(checkout, *targets)
    printed = checkout.snakemake("-c2", *targets)
    counts = job_counts(printed)
    counts.pop("all", None)
    assert counts == announced
    linked = Counter(stage.replace("-", "_") for stage in LINKED.findall(printed))
    assert checkout.pending(*targets) == {}
    return Ran({rule: n - linked[rule] for rule, n in counts.items() if n > linked[rule]}, dict(linked))


def shuffle_times(root: Path) -> None:
    """Give every file another time of change, in an order that has nothing to do with that of their making."""
    generator = random.Random(0)
    for file in sorted(root.rglob("*")):
        moment = 1.7e9 + generator.randrange(10**7)
        os.utime(file, (moment, moment))


def test_nothing_runs_after_an_edit_that_changes_no_meaning(copy: Checkout) -> None:
    assert pending(copy) == {}
    for number, path in enumerate(sorted((copy.root / "src").rglob("*.py"))):
        tree = ast.parse(path.read_text())
        if ast.get_docstring(tree):
            tree.body[0] = ast.Expr(ast.Constant(f"Module {number}, in other words."))
        path.write_text(f"# a remark\n{ast.unparse(tree)}\n\n# the end\n")  # without comments, formatted otherwise
    rules = copy.root / "workflow/rules/data.smk"
    text = rules.read_text().replace("use rule stage as prepare with", "use rule stage as make_samples with")
    assert "make_samples" in text
    rules.write_text(f"# Other words.\n{text}")
    for file in copy.root.rglob("*"):
        file.touch()
    assert pending(copy) == {}
    shutil.rmtree(copy.root / ".snakemake")
    shuffle_times(copy.root)
    assert pending(copy) == {}


def test_nothing_runs_in_a_fresh_clone_with_the_results_copied(made: Checkout, tmp_path: Path) -> None:
    clone = copy_checkout(tmp_path / "another" / "place")
    for folder in ("results", "tables"):
        shutil.copytree(made.root / folder, clone.root / folder)
    shuffle_times(clone.root)
    assert pending(clone) == {}
    shutil.rmtree(clone.root / "results/.works")  # as `cp results/*` leaves it behind
    assert pending(clone) == {}


def test_nothing_runs_for_another_spelling_or_other_machines(copy: Checkout) -> None:
    scale = copy.yaml(SCALE)
    scale["execution"] |= {"micro_batch": 3, "prediction_batch": 7, "checkpoint_steps": 2, "cache_features": False}
    scale["execution"]["default"] = {"threads": 2, "mem_mb": 4000, "runtime": 99, "gpus": 4}
    copy.write_yaml(SCALE, dict(reversed(scale.items())))
    copy.edit(SCALE, "- 0.0005\n", "- 5.00e-4\n")
    config = (copy.root / "config.yaml").read_text().splitlines()
    (copy.root / "config.yaml").write_text("\n".join(reversed(config)) + "\n")
    assert pending(copy) == {}


def test_a_scorer_changed_in_meaning(copy: Checkout) -> None:
    copy.edit("src/lntune/benchmarks/pope/score.py", '{"No", "no", "not"}', '{"No", "no", "not", "never"}')
    assert "lntune.benchmarks.pope.score changed" in copy.run("lntune", "plan")
    ran = run(copy)  # no model says "never", so the scores come out as they were and the table is linked
    assert (ran.computed, ran.linked) == ({"score_pope": 2, "publish": 3}, {"table": 1})
    copy.edit("src/lntune/benchmarks/pope/score.py", '{"No", "no", "not", "never"}', '{"Yes", "yes"}')
    assert run(copy).computed == {"score_pope": 2, "table": 1, "publish": 3}


def test_a_tables_title(copy: Checkout) -> None:
    before = (copy.root / "tables/tiny.md").read_bytes()
    copy.edit("workflow/report_items/tiny.yaml", "two ways to tune", "two ways")
    assert 'title "Tiny: two ways to tune" -> "Tiny: two ways"' in copy.run("lntune", "plan")
    assert run(copy, "tables/tiny.md").computed == {"table": 1, "publish": 1}
    assert (copy.root / "tables/tiny.md").read_bytes() != before


def test_one_more_learning_rate(copy: Checkout) -> None:
    """Tried with a rate that loses, on any tie too: the candidate that was chosen stays."""
    scale = copy.yaml(SCALE)
    scale["methods"]["finetune"]["learning_rates"].append(0.9)
    copy.write_yaml(SCALE, scale)
    ran = run(copy)
    assert ran.computed == {
        "finetune": 1, "predict": 1, "score_captions": 1, "select": 1, "table": 1, "publish": 3,
    }  # fmt: skip
    assert ran.linked == {"predict": 5, "score_mme": 1, "score_pope": 1, "score_vqav2": 1, "score_captions": 2}


def test_a_filter_rewritten(copy: Checkout) -> None:
    copy.edit(LLAVA, "import json\n", "import json\n\nREWRITTEN = True\n")
    before = (copy.root / TABLE).read_bytes()
    assert "49 cost nothing" not in copy.run("lntune", "plan")
    ran = run(copy)
    assert ran.computed == {"prepare": 5, "publish": 3 + 2}  # and what data.csv tells of the sets is linked
    assert ran.linked["data_table"] == ran.linked["connector"] == 1
    assert ran.linked["finetune"] == 3 and ran.linked["predict"] == 13
    assert (copy.root / TABLE).read_bytes() == before
    manifest = json.loads((copy.results("connector")[0] / "manifest.json").read_text())
    other = json.loads((copy.results("connector")[1] / "manifest.json").read_text())
    link, origin = (manifest, other) if manifest["origin"] else (other, manifest)
    assert (link["origin"]["id"], origin["origin"]) == (origin["id"], None)


def test_a_filter_that_drops_one_more_sample(copy: Checkout) -> None:
    text = (copy.root / LLAVA).read_text()
    assert "def pretrain_samples(" in text
    (copy.root / LLAVA).write_text(
        text.replace("def pretrain_samples(", "def _all_pretrain_samples(")
        + "\n\ndef pretrain_samples(folder, drops):\n"
        + "    read, samples = _all_pretrain_samples(folder, drops)\n"
        + '    drops.choose("the first", 1)\n    return read, samples[1:]\n'
    )
    ran = run(copy)
    assert ran.computed["prepare"] == 5 and ran.computed["connector"] == 1
    assert ran.computed["finetune"] == 3
    assert sum(ran.computed.get(rule, 0) + ran.linked.get(rule, 0) for rule in ("predict",)) == 13


def test_scale_and_report_items_switched_and_back(copy: Checkout) -> None:
    first = {name: (copy.root / "tables" / name).read_bytes() for name in ("tiny.csv", "tiny.md", "tiny.tex")}
    scale = copy.yaml(SCALE)
    scale["sources"]["pope"]["draw"]["images"] = 3
    scale["note"] = "This is another scale."
    copy.write_yaml("workflow/scales/other.yaml", scale)
    copy.edit("config.yaml", "scale: tiny ", "scale: other ")
    ran = run(copy)
    assert MODELS & ran.computed.keys() == {"predict"}
    second = {name: (copy.root / "tables" / name).read_bytes() for name in first}
    assert b"This is another scale" in second["tiny.md"] and second["tiny.csv"] != first["tiny.csv"]
    for name, right in (("tiny", first), ("other", second)):
        text = (copy.root / "config.yaml").read_text()
        (copy.root / "config.yaml").write_text(re.sub(r"scale: \w+ ", f"scale: {name} ", text))
        # The tables, and what says besides at which scale it is: data.csv, and data, claims and comparison as .md.
        assert job_counts(copy.snakemake("-c2")) == {"publish": 3 + 4, "all": 1}
        assert {name: (copy.root / "tables" / name).read_bytes() for name in first} == right
    text = (copy.root / "config.yaml").read_text()
    (copy.root / "config.yaml").write_text(re.sub(r"scale: \w+ ", "scale: tiny ", text))
    report_item = copy.yaml("workflow/report_items/tiny.yaml")
    report_item["rows"] = report_item["rows"][:1]
    copy.write_yaml("workflow/report_items/small.yaml", report_item)
    copy.edit("config.yaml", "report_items: [tiny]", "report_items: [small]")
    assert run(copy).computed == {"table": 1, "publish": 3 + 4}
    copy.edit("config.yaml", "report_items: [small]", "report_items: [tiny]")
    assert job_counts(copy.snakemake("-c2")) == {
        "publish": 3,
        "all": 1,
    }
    assert {name: (copy.root / "tables" / name).read_bytes() for name in first} == first


def test_a_deleted_checkpoint_is_made_again_only_for_what_needs_it(copy: Checkout) -> None:
    [lost] = [result for result in copy.results("finetune") if "layernorm" in result.name]
    shutil.rmtree(lost)
    assert pending(copy) == {}
    scale = copy.yaml(SCALE)
    scale["methods"]["layernorm"]["learning_rates"].append(0.9)
    copy.write_yaml(SCALE, scale)
    counts = pending(copy)
    assert counts["finetune"] == 2 and "connector" not in counts


def test_a_table_edited_by_hand(copy: Checkout) -> None:
    right = (copy.root / TABLE).read_bytes()
    (copy.root / TABLE).write_bytes(right.replace(b"Finetune", b"Fine-tune"))
    assert "tables/tiny.csv: not what it should be" in copy.run("lntune", "plan")
    assert run(copy).computed == {"publish": 1}
    assert (copy.root / TABLE).read_bytes() == right


def test_another_version_of_torch(copy: Checkout) -> None:
    """The installed version as Python's own metadata tells it, for a torch that is still the same."""
    info = copy.root / "src" / "torch-99.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 99.1\n")
    counts = pending(copy)
    assert (counts["connector"], counts["finetune"], counts["predict"]) == (1, 3, 13)
    assert not {"draw", "fetch", "prepare", "questions_pope"} & counts.keys()
    found = json.loads(copy.run("lntune", "plan", "--json"))
    because = {one["stage"]: {reason["text"] for reason in one["reasons"]} for one in found["results"]}
    assert {stage for stage in because if any(text.startswith("torch ") for text in because[stage])} == MODELS
    copy.run("lntune", "accept", *MODELS, "--because", "its notes touch nothing of ours")
    assert pending(copy) == {}
    (copy.root / "results" / "accepted").touch()  # a stranger in the store disturbs nobody
    edits = yaml.safe_load((copy.root / "workflow/accepted.yaml").read_text())["accepted"]
    assert {edit["stage"]: list(edit["packages"]) for edit in edits} == {stage: ["torch"] for stage in MODELS}


def test_a_refactor_that_was_accepted(copy: Checkout) -> None:
    loop = "src/lntune/training/loop.py"
    text = (copy.root / loop).read_text()
    (copy.root / loop).write_text(text.replace("loss_value", "mean_loss"))
    assert {"connector", "finetune"} <= pending(copy).keys()
    refused = copy.run("lntune", "accept", "finetune", "--because", "a variable renamed", code=1)
    assert refused == (
        "error: accept finetune: its inputs are pending too; accept connector in the same command, or make them first\n"
    )
    assert not (copy.root / "workflow/accepted.yaml").exists()
    copy.run("lntune", "accept", "finetune", "connector", "--because", "a variable renamed")
    assert pending(copy) == {}
    # What is made from now on bears the old name, and says what ran.
    [result] = copy.results("connector")
    shutil.rmtree(result)
    for finetune in copy.results("finetune"):
        shutil.rmtree(finetune)
    assert run(copy, f"results/connector/{result.name}/manifest.json").computed == {"connector": 1}
    manifest = json.loads((result / "manifest.json").read_text())
    assert [edit["because"] for edit in manifest["accepted"]] == ["a variable renamed"]
    # Another edit of the same module is no part of that word.
    copy.edit(loop, "mean_loss, norm = torch.stack([loss,", "mean_loss, norm = torch.stack([2 * loss,")
    assert pending(copy)["connector"] == 1
