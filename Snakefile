"""Tuning LayerNorm in Attention, reproduced.

    snakemake -c2 tables/table3.csv       make one table
    snakemake -n                          see what is pending
    snakemake --profile slurm tables/table3.csv

config.yaml says what to run. A result's folder is named after the hash of everything that made it, so a result that
is there is right: inputs are ancient() and times never count (docs/provenance.md).
"""

import os
import signal
import sys
from pathlib import Path

if workflow.remote_exec:
    # SLURM's warning before a time limit goes to every process of a job; it is meant for the one that trains.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# Jobs run the code of this checkout, whichever copy of lntune is installed.
SOURCE = str(Path(workflow.basedir) / "src")
sys.path.insert(0, SOURCE)

from lntune.environment import settle

# With -d, Snakemake has left the folder that it was started in.
settle(os.environ.get("PWD", ".") if workflow.overwrite_workdir else ".")

from lntune.benchmarks.registry import question_stages, reference_stages, score_stages
from lntune.snakefile.speed import speed_up
from lntune.snakefile.workflow import Workflow, delete_nothing, ignore_damaged_records

speed_up()
delete_nothing()
ignore_damaged_records()
STUDY = Workflow(Path(workflow.basedir), config, in_job=workflow.remote_exec)
if STUDY.cluster:
    workflow.register_resource("turn", 1)  # an allocation has one, so its jobs follow each other
    if not workflow.remote_exec:
        # This machine's cores (profiles/default) are no limit for what a job asks of the cluster.
        workflow.global_resources["_cores"] = None


wildcard_constraints:
    result="[^/]+",
    name="[^/]+",
    folder="tables|figures",
    format="[a-z]+",


localrules:
    all,
    publish,
    site,


resource_scopes:
    turn="local",


rule all:
    default_target: True
    input:
        STUDY.targets(),


include: "workflow/rules/stage.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"


if STUDY.cluster:
    workflow.localrules(*STUDY.local_rules())
    for rule in STUDY.local_rules():
        workflow.get_rule(rule).group = None  # Snakemake submits the jobs of every rule that has a group


onstart:
    STUDY.start(
        fork_server=workflow.local_exec,
        jobs=workflow.dag.needrun_jobs(),
        at_once=workflow.nodes if STUDY.cluster else workflow.cores,
    )
    if STUDY.cluster:
        # A training that takes longer than a partition allows goes on in another job: as often as it needs to.
        for stage in ("connector", "finetune"):
            needed = STUDY.allocations.attempts(stage) - 1
            workflow.get_rule(stage).restart_times = needed + workflow.execution_settings.retries
