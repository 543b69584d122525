"""What jobs ask for on a cluster and which share an allocation: no Slurm is needed, nothing is run there."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checkout import ROOT, Checkout, copy_checkout, job_counts, run_python
from lntune.plan.forecast import Forecast
from lntune.plan.node import Node, Part
from lntune.snakefile.resources import MARGIN, SPARE
from lntune.snakefile.workflow import Workflow
from lntune.stages import similarity

GPU = {"threads": 16, "mem_mb": 400_000, "runtime": 600, "gpus": 4}
CLUSTER = {"partition": "cpu", "gpu_partition": "big", "gpu_model": "a100", "account": "lab", "qos": "long"}
SECONDS = 1 + SPARE
"""Minutes that a job of seconds asks for."""
ANYWHERE = {"nodes": 1, "slurm_account": "lab", "qos": "long"}
ON_GPUS = {"slurm_partition": "big", "gpu_model": "a100", "slurm_extra": "--signal=USR1@300", **ANYWHERE}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout without results that gives four GPUs to what loads a model."""
    checkout = copy_checkout(tmp_path / "checkout")
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["stages"] = dict.fromkeys(("connector", "finetune", "predict"), GPU)
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    monkeypatch.chdir(checkout.root)
    return checkout


def _workflow(checkout: Checkout, **cluster: Any) -> Workflow:
    return Workflow(checkout.root, {"cluster": CLUSTER | cluster})


def _nodes(workflow: Workflow, stage: str) -> list[Node]:
    return [node for node in workflow.plan.nodes() if node.stage == stage]


def _wildcards(workflow: Workflow, stage: str) -> SimpleNamespace:
    return SimpleNamespace(result=_nodes(workflow, stage)[0].name)


def _asked(workflow: Workflow, stage: str) -> dict[str, object]:
    """What a job of the stage asks for; names that it leaves to the cluster are left out, as Snakemake does."""
    wildcards = _wildcards(workflow, stage)
    values = {name: v(wildcards) if callable(v) else v for name, v in workflow.resources.items()}
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.slow
def test_a_job_keeps_its_cpus_on_a_login_node_with_fewer_cores(checkout: Checkout) -> None:
    """``cores`` of profiles/default are the login node's, and no limit for the cluster's jobs."""
    checkout.edit("workflow/rules/stage.smk", '    message:\n        "{rule} {wildcards.result}"\n', "")
    told = checkout.snakemake("-n", "--cores", "2", "--profile", "slurm", "--config", "scale=tiny", "protocol=modern")
    finetune = told.split("rule finetune:")[1].split("rule ")[0]
    assert "threads: 16" in finetune and "gpu=4" in finetune


def test_without_a_cluster_amounts_are_the_scales_and_there_are_no_names(checkout: Checkout) -> None:
    workflow = Workflow(checkout.root, {})
    assert _asked(workflow, "finetune") == {"mem_mb": 400_000, "runtime": 600, "gpu": 4}
    assert _asked(workflow, "draw") == {"mem_mb": 1500, "runtime": 30}
    assert callable(workflow.threads)
    assert [workflow.threads(_wildcards(workflow, stage)) for stage in ("finetune", "draw")] == [16, 1]
    assert workflow.group is None and workflow.local_rules() == []


@pytest.mark.parametrize("stage", ["connector", "finetune", "predict"])
def test_on_a_cluster_what_loads_a_model_goes_to_the_gpus(checkout: Checkout, stage: str) -> None:
    turn = {} if stage == "connector" else {"turn": 1}
    amounts = {"mem_mb": 400_000, "runtime": 600, "gpu": 4}
    assert _asked(_workflow(checkout), stage) == amounts | ON_GPUS | turn


@pytest.mark.parametrize("stage", ["draw", "prepare", "score-pope", "questions-mme", "table"])
def test_the_other_stages_stay_off_the_gpus(checkout: Checkout, stage: str) -> None:
    cpu = {"mem_mb": 1500, "runtime": SECONDS, "slurm_partition": "cpu", **ANYWHERE}
    assert _asked(_workflow(checkout), stage) == cpu


def test_what_is_not_named_is_left_to_the_cluster(checkout: Checkout) -> None:
    workflow = Workflow(checkout.root, {"cluster": {"warning_seconds": 0}})
    assert _asked(workflow, "connector") == {"mem_mb": 400_000, "runtime": 600, "gpu": 4, "nodes": 1}
    assert _asked(workflow, "draw") == {"mem_mb": 1500, "runtime": SECONDS, "nodes": 1}


def _groups(workflow: Workflow) -> dict[str, Counter[str]]:
    """Group to the stages of its jobs."""
    found: dict[str, Counter[str]] = {}
    for stage in ("finetune", "select", "predict"):
        group = workflow.group
        assert group is not None
        for node in _nodes(workflow, stage):
            if name := group(SimpleNamespace(result=node.name)):
                found.setdefault(name, Counter())[stage] += 1
    return found


def test_jobs_that_share_a_checkpoint_share_an_allocation(checkout: Checkout) -> None:
    groups = _groups(_workflow(checkout))
    tune = [stages for name, stages in groups.items() if name.startswith("tune-")]
    ask = [stages for name, stages in groups.items() if name.startswith("ask-")]
    assert tune == [Counter(finetune=1, predict=1)] * 3
    assert ask == [Counter(select=1, predict=5)] * 2
    assert len(groups) == 3 + 2
    answers = next(n for n in _nodes(_workflow(checkout), "predict") if isinstance(n.inputs["tuned"], Part))
    given = answers.settings.model_dump(
        exclude=type(answers.settings).model_fields.keys() - similarity.Settings.model_fields
    )
    settings = similarity.Settings(**given, questions=9)
    workflow = _workflow(checkout)
    compared = workflow.plan.node("similarity", ["it"], settings, answers.inputs, answers.execution)
    assert workflow.allocations.group(compared) == workflow.allocations.group(answers)
    # The place in a group asks where the group's jobs ask, or Snakemake refuses the group.
    workflow = _workflow(checkout)
    assert _asked(workflow, "select") == {"mem_mb": 1500, "runtime": SECONDS, "turn": 1} | ON_GPUS


def test_a_prediction_with_fewer_gpus_does_not_keep_those_of_the_training_idle(checkout: Checkout) -> None:
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["stages"]["predict"] = GPU | {"gpus": 1}
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    groups = _groups(_workflow(checkout))
    assert sorted(map(dict, groups.values()), key=str) == [{"select": 1, "predict": 5}] * 2


def test_submissions_of_table_3(checkout: Checkout) -> None:
    """Three learning rates a method, five LLMs, three rows; six stages on the cluster, the others on the login node."""
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    for method in ("finetune", "layernorm"):
        scale["methods"][method]["learning_rates"] = [1.0e-3, 2.0e-3, 3.0e-3]
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    checkout.edit("config.yaml", "[tiny]", "[table3]")
    site = checkout.yaml("slurm/site.yaml")["cluster"]
    workflow = Workflow(checkout.root, {"cluster": site})
    remote = [node for node in workflow.plan.nodes() if node.stage not in site["login_node"]]
    jobs = Counter(node.stage for node in remote)
    assert jobs == {
        "draw": 7,
        "prepare": 3,
        "encode": 15,
        "connector": 5,
        "finetune": 45,
        "predict": 45 + 75,
        "select": 15,
    }
    submissions = {workflow.allocations.group(node) or node.name for node in remote}
    assert (len(remote), len(submissions)) == (210, 7 + 3 + 15 + 5 + 45 + 15)


# --- time: of the paper's scale, in an empty store


def _paper(store: Path, **cluster: Any) -> Workflow:
    given = {"scale": "paper", "protocol": "paper", "store": str(store), "cluster": CLUSTER | cluster}
    workflow = Workflow(ROOT, given)
    workflow.plan.report_item("table3")
    return workflow


def test_a_job_asks_for_the_time_that_is_predicted_and_a_margin(tmp_path: Path) -> None:
    workflow = _paper(tmp_path)
    forecast = Forecast(workflow.plan)
    for stage in ("fetch", "prepare", "connector", "finetune", "predict", "score-captions", "table"):
        for node in _nodes(workflow, stage):
            minutes = forecast.of(node).seconds * MARGIN / 60
            assert minutes < workflow.allocations.runtime(node) <= minutes + 1 + SPARE
    runtime, wildcards = workflow.resources["runtime"], _wildcards(workflow, "predict")
    assert [runtime(wildcards, attempt=n) for n in (1, 2, 3)] == [runtime(wildcards) * n for n in (1, 2, 4)]


def test_the_time_that_a_scale_states_is_the_same_at_each_attempt(checkout: Checkout) -> None:
    workflow = _workflow(checkout)
    runtime, wildcards = workflow.resources["runtime"], _wildcards(workflow, "connector")
    assert [runtime(wildcards, attempt=n) for n in (1, 2, 3)] == [600, 600, 600], "nothing predicts it"


def test_no_job_asks_for_more_than_its_partition_allows(tmp_path: Path) -> None:
    workflow = _paper(tmp_path, time_limit=40, gpu_time_limit=720)
    runtime = workflow.allocations.runtime
    for attempt in (1, 2, 4):
        asked = {node: runtime(node, attempt) for node in workflow.plan.nodes()}
        assert max(asked[node] for node in _nodes(workflow, "fetch")) == 40
        assert max(asked.values()) == 720 == max(asked[node] for node in _nodes(workflow, "connector"))
        for members in _members(workflow).values():
            assert sum(asked[node] for node in members) <= 720


def _members(workflow: Workflow) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in workflow.plan.nodes():
        if name := workflow.allocations.group(node):
            found.setdefault(name, []).append(node)
    return found


def test_the_questions_to_a_chosen_model_ask_for_hours_of_the_forecast_and_not_for_two_days(tmp_path: Path) -> None:
    """Each was given eight hours, so that a group of seven jobs asked for 41 to 57."""
    workflow = _paper(tmp_path, gpu_time_limit=1440)
    groups = {name: nodes for name, nodes in _members(workflow).items() if name.startswith("ask-")}
    assert len(groups) == len(_nodes(workflow, "select"))
    minutes = [sum(map(workflow.allocations.runtime, nodes)) for nodes in groups.values()]
    assert min(minutes) > 60 and max(minutes) < 20 * 60


def test_a_group_that_takes_longer_than_the_partition_allows_is_split_into_jobs(tmp_path: Path) -> None:
    workflow = _paper(tmp_path, gpu_time_limit=240)
    groups = _members(workflow)
    assert all(name.startswith("tune-") and "-20K-" in name.replace(".20K", "-20K") for name in groups)
    assert all(sum(map(workflow.allocations.runtime, [ones[0]])) <= 240 for ones in groups.values())
    asked = [workflow.allocations.runtime(node) for node in _nodes(workflow, "predict")]
    assert min(asked) < 60 and max(asked) <= 240
    (select, *_) = _nodes(workflow, "select")
    placed = workflow.resources["slurm_partition"](SimpleNamespace(result=select.name))
    assert placed == "cpu", "alone, it needs no GPU"


@pytest.mark.parametrize(("hours", "attempts"), [(24, 3), (12, 5), (200, 1)])
def test_a_training_has_as_many_attempts_as_its_predicted_hours_need(tmp_path: Path, hours: int, attempts: int) -> None:
    """32.0 hours predicted for the 13B connector, 48.0 with the margin: more than `retries: 3` of a short partition."""
    workflow = _paper(tmp_path, gpu_time_limit=60 * hours)
    assert workflow.allocations.attempts("connector") == attempts
    longest = max(Forecast(workflow.plan).of(node).seconds for node in _nodes(workflow, "connector"))
    assert longest == pytest.approx(32.0 * 3600, rel=0.01)


def test_the_warning_leaves_time_to_write_a_large_checkpoint(tmp_path: Path) -> None:
    workflow = _paper(tmp_path)
    extra = workflow.resources["slurm_extra"]
    found = {node.label: extra(SimpleNamespace(result=node.name)) for node in _nodes(workflow, "finetune")}
    assert "--signal=USR1@613" in found["llama2-13b-finetune-80K-0.001"], "156 GB"
    assert "--signal=USR1@301" in found["llama2-13b-layernorm-simp-80K-0.001"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"login_node": ["scores"]}, "slurm/site.yaml: cluster.login_node[0]: unknown stage 'scores' ("),
        (
            {"login_node": ["fetch", "finetune"]},
            "slurm/site.yaml: cluster.login_node[1]: finetune runs with a model's GPUs or beside them; leave it out",
        ),
        ({"gpu_partion": "big"}, "slurm/site.yaml: cluster.gpu_partion: unknown key (did you mean"),
        ({"partition": "cpu --exclusive"}, "slurm/site.yaml: cluster.partition: "),
        ({"warning_seconds": -1}, "slurm/site.yaml: cluster.warning_seconds: "),
        ({"gpu_time_limit": "1-00:00:00"}, "slurm/site.yaml: cluster.gpu_time_limit: "),
    ],
)
def test_mistakes_in_the_clusters_file(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any], text: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        _workflow(checkout, **wrong)
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and line.startswith(f"error: {text}"), line


@pytest.mark.slow
def test_a_dry_run_needs_none_of_slurms_commands(checkout: Checkout, tmp_path: Path) -> None:
    """As on a laptop; and what --config says joins what the profile says, and wins."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "which"):
        os.symlink(shutil.which(name) or name, tools / name)
    checkout.edit("slurm/site.yaml", "scale: paper", "scale: tiny")
    checkout.edit("config.yaml", "scale: tiny", "scale: demo")
    environment = os.environ | {"PATH": str(tools), "PYTHONPATH": str(checkout.root / "src")}

    def dry_run(*config: str) -> dict[str, int]:
        done = run_python(checkout.root, environment, "snakemake", "-n", "--profile", "slurm", "--config", *config)
        assert done.returncode == 0, done.stdout[-3000:]
        return job_counts(done.stdout)

    assert dry_run("protocol=paper")["finetune"] == 3  # tiny's learning rates: 2 and 1
    assert dry_run("scale=demo")["finetune"] == 4


@pytest.mark.slow
def test_a_chain_that_will_be_linked_asks_for_no_gpu_before_its_inputs_are_there(copy: Checkout) -> None:
    """A filter that is written anew and yields the same: nothing downstream of it will compute."""
    scale = copy.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["stages"] = {name: GPU | {"threads": 1} for name in ("connector", "finetune", "predict")}
    copy.write_yaml("workflow/scales/tiny.yaml", scale)
    module = copy.root / "src/lntune/stages/prepare.py"
    module.write_text(module.read_text() + "\n\nWRITTEN_ANEW = True\n")
    code = """if True:
        import sys
        from pathlib import Path
        from lntune.snakefile.workflow import Workflow
        workflow = Workflow(Path("."), {"cluster": {"gpu_partition": "big"}}, in_job=True)
        for node in workflow.plan.nodes():
            if node.stage in sys.argv[1:]:
                manifest = f"results/{node.stage}/{node.name}/manifest.json"
                print(node.stage, workflow.allocations.will_link(node), manifest)
    """

    def told(*stages: str) -> list[list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", code, *stages], cwd=copy.root, text=True, check=True, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(copy.root / "src")}, timeout=60,
        )  # fmt: skip
        return [line.split() for line in done.stdout.splitlines()]

    assert {link for _, link, _ in told("connector", "finetune", "predict")} == {"False"}
    copy.snakemake("-c2", *(manifest for _, _, manifest in told("prepare")))
    links = told("connector", "finetune", "predict")
    assert {link for stage, link, _ in links if stage != "predict"} == {"True"}
    assert not any(Path(copy.root / manifest).exists() for _, _, manifest in links)
    prompting = [link for stage, link, _ in links if stage == "predict"]
    assert prompting.count("True") >= 3  # of the candidates; the others wait for a choice, which is no link


def test_only_what_depends_on_a_jobs_allocation_is_a_function(checkout: Checkout) -> None:
    resources = _workflow(checkout).resources
    functions = {name for name, value in resources.items() if callable(value)}
    assert functions == {"mem_mb", "runtime", "gpu", "turn", "slurm_partition", "gpu_model", "slurm_extra"}
    assert (resources["slurm_account"], resources["qos"]) == ("lab", "long")
    alike = _workflow(checkout, partition="big", account=None, warning_seconds=0).resources
    assert {name for name, value in alike.items() if callable(value)} == {
        "mem_mb",
        "runtime",
        "gpu",
        "turn",
        "gpu_model",
        "slurm_extra",  # a job waits for the one that an earlier run left in the queue
    }
    assert alike["slurm_partition"] == "big" and "slurm_account" not in alike


def test_an_environment_whose_path_slurm_would_split_is_one_line(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/home/me/my project/.venv/bin/python")
    with pytest.raises(SystemExit):
        _workflow(checkout)
    assert capsys.readouterr().err.startswith("error: /home/me/my project/.venv/bin/python: is not quoted where SLURM")
