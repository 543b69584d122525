"""The stages there are, by name, and the module of each."""

from importlib import import_module
from typing import Any

STAGES = {
    "draw": "draw",
    "fetch": "fetch",
    "convert": "convert",
    "prepare": "prepare",
    "questions-captions": "questions_captions",
    "questions-pope": "questions_pope",
    "questions-mme": "questions_mme",
    "questions-vqav2": "questions_vqav2",
    "tokenize-references": "tokenize_references",
    "connector": "connector",
    "finetune": "finetune",
    "measure": "measure",
    "predict": "predict",
    "similarity": "similarity",
    "score-captions": "score_captions",
    "score-pope": "score_pope",
    "score-mme": "score_mme",
    "score-vqav2": "score_vqav2",
    "select": "select",
    "table": "table",
    "figure-bars": "figure_bars",
    "figure-cost": "figure_cost",
    "figure-heat-maps": "figure_heat_maps",
    "figure-gradients": "figure_gradients",
    "claims": "claims",
    "comparison": "comparison",
    "data-table": "data_table",
    "train-clip": "train_clip",
    "train-vit": "train_vit",
    "train-llm": "train_llm",
}
"""Stage to its module in this folder, in the order in which they run; the demo's weights come last, being apart."""


def stage_module(stage: str) -> Any:
    """The module of a stage, by the stage's name."""
    return import_module(f"lntune.stages.{STAGES[stage]}")
