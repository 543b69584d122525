"""Trains the demo's vision encoders and LLMs, and puts them into workflow/weights and the catalogue.

    snakemake -s workflow/demo_weights.smk -c2          (make demo-weights)
"""

import sys
from pathlib import Path

ROOT = Path(workflow.basedir).parent
sys.path.insert(0, str(ROOT / "src"))

from lntune.workflow import DemoWeightsWorkflow

WEIGHTS = DemoWeightsWorkflow(ROOT, config)
JOB = f"{sys.executable} -m lntune.job"


wildcard_constraints:
    stage="train-(clip|vit|llm)",
    result="[^/]+",


rule all:
    input:
        WEIGHTS.targets(),
    default_target: True


rule train:
    input:
        ancient(WEIGHTS.inputs),
    output:
        f"{WEIGHTS.store}/{{stage}}/{{result}}/manifest.json",
    log:
        "logs/{stage}/{result}.log",
    params:
        order=WEIGHTS.order,
    message:
        "{wildcards.stage} {wildcards.result}"
    shell:
        "{JOB} {params.order} {log} --heavy"


onstart:
    WEIGHTS.start(warm=workflow.local_exec)


onsuccess:
    WEIGHTS.publish()
