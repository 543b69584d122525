"""Runs one stage in a folder, and has one refuse; for the tests of stages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lntune.errors import UserError
from lntune.plan.stages import stage_module
from lntune.stages.draw import draw_set
from lntune.store.job import Job

Folders = Mapping[str, Path | tuple[Path, ...]]


def run(out: Path, stage: str, settings: dict[str, Any], inputs: Folders, **execution: Any) -> dict[str, Any]:
    """Run a stage into ``out``; return its metrics."""
    module = stage_module(stage)
    out.mkdir(parents=True)
    scratch = out.with_name(out.name + ".scratch")
    job = Job(out.name, module.Settings(**settings), module.Execution(**execution), inputs, out, scratch)
    metrics: dict[str, Any] = module.run(job)
    return metrics


def refusal(out: Path, stage: str, settings: dict[str, Any], inputs: Folders, **execution: Any) -> str:
    """The one line with which a stage refuses."""
    with pytest.raises(UserError) as raised:
        run(out, stage, settings, inputs, **execution)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def draw_small(root: Path) -> Path:
    """Small drawn sets, each in its folder."""
    sizes = {"instruct": 24, "coco": 40, "flickr30k": 20, "vqav2": 12, "pope": 6, "mme": 3}
    for name, images in sizes.items():
        (root / name).mkdir()
        draw_set(name, root / name, images, 0, {"coco": root / "coco"} if name in ("vqav2", "pope") else {})
    return root
