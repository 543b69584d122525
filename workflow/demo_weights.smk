"""Trains the demo's vision encoders and LLMs, and puts them into workflow/weights and the catalogue.

    snakemake -s workflow/demo_weights.smk -c2          (make demo-weights)
"""

import os
import sys
from pathlib import Path

ROOT = Path(workflow.basedir).parent
sys.path.insert(0, str(ROOT / "src"))
os.environ["PYTHONPATH"] = str(ROOT / "src")

from lntune.commands.pin import pin
from lntune.snakefile.workflow import DemoWeightsWorkflow

WEIGHTS = DemoWeightsWorkflow(ROOT, config)
JOB = f"{sys.executable} -m lntune.jobs.submit"


wildcard_constraints:
    result="[^/]+",


rule all:
    input:
        WEIGHTS.targets(),
    default_target: True


rule train_llm:
    input:
        ancient(WEIGHTS.inputs),
    output:
        f"{WEIGHTS.store}/{{stage}}/{{result}}/manifest.json",
    wildcard_constraints:
        stage="train-llm",
    log:
        "logs/{stage}/{result}.log",
    params:
        spec=WEIGHTS.order,
    priority: 1  # the longest come first
    message:
        "{wildcards.stage} {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"


rule train_vision:
    input:
        ancient(WEIGHTS.inputs),
    output:
        f"{WEIGHTS.store}/{{stage}}/{{result}}/manifest.json",
    wildcard_constraints:
        stage="train-(clip|vit)",
    log:
        "logs/{stage}/{result}.log",
    params:
        spec=WEIGHTS.order,
    priority: 0
    message:
        "{wildcards.stage} {wildcards.result}"
    shell:
        "{JOB} {params.spec} {log} --heavy"


onstart:
    WEIGHTS.start(warm=workflow.local_exec)


onsuccess:
    WEIGHTS.publish(pin)
