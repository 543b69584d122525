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
os.environ["PYTHONPATH"] = SOURCE

from lntune.snakefile.resources import TURN
from lntune.snakefile.speed import quick_signatures
from lntune.plan.pages import PAGES
from lntune.snakefile.speed import collect_rarely
from lntune.snakefile.report_pages import ReportPages
from lntune.plan.targets import FORMATS
from lntune.snakefile.workflow import Workflow

collect_rarely()
quick_signatures()
STUDY = Workflow(Path(workflow.basedir), config, in_job=workflow.remote_exec)
REPORT = ReportPages(STUDY)
# exec: no shell stands between Snakemake and a job that a signal is meant for.
JOB = f"exec {sys.executable} -m lntune.jobs.submit"
if STUDY.cluster:
    workflow.localrules(*STUDY.local_rules())
    workflow.register_resource(TURN, 1)  # an allocation has one, so its jobs follow each other
    if not workflow.remote_exec:
        # This machine's cores (profiles/default) are no limit for what a job asks of the cluster.
        workflow.global_resources["_cores"] = None


wildcard_constraints:
    result="[^/]+",
    name="[^/]+",
    folder="|".join(FORMATS),
    format="[a-z]+",


localrules:
    all,
    publish,
    page,


resource_scopes:
    turn="local",


rule all:
    input:
        STUDY.targets(),
    default_target: True


include: "workflow/rules/data.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"


onstart:
    STUDY.start(warm=workflow.local_exec)
