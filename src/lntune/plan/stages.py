"""The stages there are, by name, and the module of each."""

from importlib import import_module
from typing import Any

from lntune.benchmarks.registry import question_stages, reference_stages, score_stages

STAGES = {
    "draw": "lntune.stages.draw",
    "fetch": "lntune.stages.fetch",
    "convert": "lntune.stages.convert",
    "prepare": "lntune.stages.prepare",
    **{name: stage.module for name, stage in question_stages().items()},
    **{name: stage.module for name, stage in reference_stages().items()},
    "connector": "lntune.stages.connector",
    "finetune": "lntune.stages.finetune",
    "measure": "lntune.stages.measure",
    "predict": "lntune.stages.predict",
    "similarity": "lntune.stages.similarity",
    **{name: stage.module for name, stage in score_stages().items()},
    "select": "lntune.stages.select",
    "table": "lntune.stages.table",
    "figure-bars": "lntune.stages.figure_bars",
    "figure-cost": "lntune.stages.figure_cost",
    "figure-heat-maps": "lntune.stages.figure_heat_maps",
    "figure-gradients": "lntune.stages.figure_gradients",
    "claims": "lntune.stages.claims",
    "comparison": "lntune.stages.comparison",
    "data-table": "lntune.stages.data_table",
    "train-clip": "lntune.stages.train_clip",
    "train-vit": "lntune.stages.train_vit",
    "train-llm": "lntune.stages.train_llm",
}
"""Stage to its module, in the order in which they run; the demo's weights come last, being apart."""


def stage_module(stage: str) -> Any:
    """The module of a stage, by the stage's name."""
    return import_module(STAGES[stage])
