"""Trains the demo's vision encoders and LLMs, and puts them into workflow/weights and the catalogue.

snakemake -s workflow/demo_weights.smk -c2          (make demo-weights)
"""

import os
import sys
from pathlib import Path

ROOT = Path(workflow.basedir).parent
sys.path.insert(0, str(ROOT / "src"))

from lntune.environment import settle

settle(os.environ.get("PWD", ".") if workflow.overwrite_workdir else ".")

from lntune.commands.pin import pin
from lntune.snakefile.demo_weights import DemoWeightsWorkflow
from lntune.snakefile.workflow import delete_nothing, ignore_damaged_records

delete_nothing()
ignore_damaged_records()
STUDY = DemoWeightsWorkflow(ROOT, config)


wildcard_constraints:
    result="[^/]+",


rule all:
    default_target: True
    input:
        STUDY.targets(),


include: "rules/stage.smk"


# An LLM with a shape of its own, or one that goes on from another's weights. The longest come first.
use rule stage as train_llm with:
    input:
        STUDY.inputs("train-llm", base="optional train-llm"),
    pathvars:
        stage="train-llm",
    priority: 1


# The demo's CLIP, trained on drawn images and their captions.
use rule stage as train_clip with:
    input:
        STUDY.inputs("train-clip"),
    pathvars:
        stage="train-clip",


# The demo's ViT, trained to classify drawn images.
use rule stage as train_vit with:
    input:
        STUDY.inputs("train-vit"),
    pathvars:
        stage="train-vit",


onstart:
    STUDY.start(fork_server=workflow.local_exec, jobs=workflow.dag.needrun_jobs())


onsuccess:
    STUDY.publish(pin)
