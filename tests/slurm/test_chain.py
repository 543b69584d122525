"""The demo's reduced chain on a real Slurm, from data to the table, while jobs are stopped in three ways."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from checkout import Checkout
from cluster import Cluster, JobState, wait_until
from lntune.snakefile.resources import SPARE
from on_slurm import TABLE, on_slurm, one_row, printed_by, start
from training_jobs import TrainingJob

SECONDS = 1 + SPARE
"""Minutes that a job of seconds asks for."""
MADE = ("draw/pretrain-*", "draw/instruct-*", "fetch/demo-clip-*", "prepare/connector-*", "encode/*-connector-*")
"""What the store holds before the run: of each stage before training one result is left to be made."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Run:
    """What is left of a run on the cluster: the checkout, SLURM's jobs, and the trainings that were stopped."""

    checkout: Checkout
    jobs: list[JobState]
    stopped: dict[str, TrainingJob]

    def of(self, text: str) -> list[JobState]:
        """The jobs of a rule, a group or a result, oldest first."""
        return [job for job in self.jobs if text in job.comment]


def _the_job(cluster: Cluster, text: str) -> JobState:
    (job,) = [job for job in cluster.jobs("RUNNING") if text in job.comment]
    return job


def _fail_node_under(training: TrainingJob, cluster: Cluster) -> None:
    """The node goes down under a job and comes back once the job is gone from it."""
    training.wait_until_held(400)
    cluster.set_node("DOWN")
    wait_until(lambda: not training.is_running, "the end of the job on the failed node")
    cluster.set_node("RESUME")


def _pass_time_limit_of(training: TrainingJob, cluster: Cluster) -> None:
    training.wait_until_held(400)
    job = _the_job(cluster, training.result)
    cluster.run("scontrol", "update", f"JobId={job.id}", "EndTime=now+1")


def _cancel(training: TrainingJob, cluster: Cluster) -> None:
    training.wait_until_held(400)
    cluster.run("scancel", str(_the_job(cluster, training.result).id))


@pytest.fixture(scope="module")
def run(cluster: Cluster, made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of all that the table needs, disturbed."""
    checkout = on_slurm(one_row(tmp_path_factory.mktemp("slurm") / "checkout"))
    store = checkout.root / "results"
    for pattern in MADE:
        (result,) = (made.root / "results").glob(pattern)
        shutil.copytree(result, store / result.parent.name / result.name)
    (connector,) = [folder.name for folder in made.results("connector")]
    high, low = sorted((folder.name for folder in made.results("finetune") if "-80K-" in folder.name), key=len)
    disturbances = {
        "node down": (TrainingJob(store, "connector", connector), _fail_node_under),
        "time limit": (TrainingJob(store, "finetune", high), _pass_time_limit_of),
        "scancel": (TrainingJob(store, "finetune", low), _cancel),
    }
    process = start(checkout, cluster, *TABLE)
    try:
        with ThreadPoolExecutor(len(disturbances)) as pool:
            connector_job, *others = disturbances.values()
            connector_job[1](connector_job[0].watch(), cluster)
            list(pool.map(lambda one: one[1](one[0].watch(), cluster), others))
        process.wait(900)
    finally:
        process.kill()
        for training, _ in disturbances.values():
            training.end()
    assert process.returncode == 0, printed_by(checkout)[-4000:]
    return Run(checkout, cluster.jobs(), {name: one[0] for name, one in disturbances.items()})


def _outputs(root: Path) -> dict[str, str]:
    """The content of every file of every result, by the hash in its manifest."""
    found = {}
    for path in (root / "results").glob("[!.]*/[!.]*/manifest.json"):
        for name, record in json.loads(path.read_text())["outputs"].items():
            found[f"{path.parent.relative_to(root)}/{name}"] = record["blake3"]
    return found


def test_results_have_the_bytes_of_a_local_run(run: Run, made: Checkout, tmp_path: Path) -> None:
    local = one_row(tmp_path / "local")
    shutil.copytree(made.root / "results", local.root / "results")
    local.snakemake("-c2", *TABLE)  # the table alone: its results have been made
    there, here = _outputs(run.checkout.root), _outputs(local.root)
    assert there == {name: here[name] for name in there}
    assert len([name for name in there if name.endswith("tuned.safetensors")]) == 2 + 1  # and the chosen one's link
    for name in TABLE:
        assert (run.checkout.root / name).read_bytes() == (local.root / name).read_bytes()


def test_training_goes_on_where_it_was_stopped(run: Run) -> None:
    for event, training in run.stopped.items():
        result = run.checkout.root / "results" / training.stage / training.result
        steps = [json.loads(line)["step"] for line in (result / "metrics.jsonl").read_text().splitlines()]
        assert steps == list(range(1, len(steps) + 1)), event
        assert 1 <= training.step < len(steps), event
        assert all(step > training.step for step in training.later), (event, training.step, training.later)


def test_what_slurm_says_of_the_jobs_that_were_stopped(run: Run) -> None:
    (connector,) = run.of(run.stopped["node down"].result)
    assert (connector.state, connector.restarts) == ("COMPLETED", 1)  # queued again by SLURM itself
    assert [job.state for job in run.of(run.stopped["time limit"].result)] == ["TIMEOUT", "COMPLETED"]
    assert [job.state for job in run.of(run.stopped["scancel"].result)] == ["CANCELLED", "COMPLETED"]
    stopped = {job.id for training in run.stopped.values() for job in run.of(training.result)}
    assert {job.state for job in run.jobs if job.id not in stopped} == {"COMPLETED"}


def test_stages_go_where_they_belong_and_ask_for_what_the_scale_says_and_the_time_of_the_forecast(run: Run) -> None:
    """The time of trainings is the scale's, since it names no GPU to predict it for."""
    asked = {(job.partition, job.gpus, job.memory, job.limit) for job in run.of("rule_connector")}
    assert asked == {("a100", "a100:1", 100_000, 60)}
    # Two jobs of a group follow each other: its time is their sum, its GPUs are those of one.
    (first, *_) = run.of("rule_tune-")
    assert (first.partition, first.gpus, first.memory) == ("a100", "a100:1", 100_000)
    (ask,) = run.of("rule_ask-")
    assert (ask.partition, ask.gpus, ask.memory, ask.limit) == ("a100", "a100:1", 100_000, 60 + SECONDS)
    for job in run.of("rule_prepare"):
        assert (job.partition, job.cpus, job.gpus, job.memory, job.limit) == ("cpu", 40, "", 300_000, SECONDS)
    off_the_gpus = {
        job.partition for rule in ("draw", "fetch", "questions", "score", "table") for job in run.of(f"rule_{rule}")
    }
    assert off_the_gpus == {"cpu"}
    assert run.checkout.results("tokenize-references") and not run.of("rule_tokenize"), "it runs beside Snakemake"


def test_jobs_that_share_a_checkpoint_are_submitted_once(run: Run) -> None:
    """Two candidates and the model that is chosen: three jobs where there would be seven."""
    grouped = {job.id for rule in ("finetune", "select", "predict") for job in run.of(f"rule_{rule}")}
    assert not grouped
    assert len(run.of("rule_tune-")) == 2 + 2  # both were stopped once
    assert len(run.of("rule_ask-")) == 1
