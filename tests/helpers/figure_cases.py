"""Figures to draw in tests: the paper's costs, and invented scores, similarities and gradients.

PYTHONPATH=src python tests/helpers/figure_cases.py FOLDER    # write some of them there
"""

import csv
import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lntune.config.training import Norm
from lntune.report.figure import add_note, look, save
from lntune.stages.figure_bars import Bars, Benchmark, Score, draw_bars
from lntune.stages.figure_cost import Cost, Costs, draw_cost
from lntune.stages.figure_gradients import Gradients, Series, draw_gradients
from lntune.stages.figure_heat_maps import HeatMaps, LayerSimilarity, draw_heat_maps

NOTE = "tiny models that learned a drawn world; their numbers say nothing about the paper's"
TABLE2 = Path(__file__).parents[2] / "workflow/paper/table2.csv"
MODELS = ("MM-VICUNA-7B", "MM-LLAMA2-7B", "MM-LLAMA2-CHAT-7B", "MM-LLAMA2-13B", "MM-LLAMA2-CHAT-13B")
TYPES = ("All 80K", "Conversation", "Detail", "Complex reasoning")


def paper_costs() -> Costs:
    cells: dict[tuple[str, str], dict[str, str]] = {}
    with TABLE2.open() as file:
        for record in csv.DictReader(file):
            cells.setdefault((record["group"], record["row"]), {})[record["column"]] = record["value"]
    costs = []
    for (model, method), its in cells.items():
        memory = None if its["Mem. (GB)"] == "OOM" else float(its["Mem. (GB)"])
        costs.append(Cost(model, method, float(its["#param."].strip("%")), memory))
    return Costs(tuple(costs), "GPU memory (GB)", 80.0)


def demo_costs(models: int, methods: int = 6) -> Costs:
    names = ("Finetune", "LoRA", "Attn. QV Proj.", "Attn. MLP", "LayerNorm", "LayerNorm-simp.")
    shares, memory = (97.2, 12.0, 22.0, 60.1, 9.4, 0.3), (0.31, 0.19, 0.22, 0.25, 0.18, 0.17)
    rows = list(zip(names, shares, memory, strict=True))[:methods]
    costs = [Cost(model, *row) for model in MODELS[:models] for row in rows]
    return Costs(tuple(costs), "peak memory (GB)", None)


def oom_costs(capacity: float | None) -> Costs:
    costs = [Cost(one.model, one.method, one.trainable_percent, None) for one in paper_costs().costs]
    return Costs(tuple(costs), "GPU memory (GB)", capacity)


def bars(models: int, rows: int, missing: bool = False) -> Bars:
    random.seed(0)
    benchmarks = []
    kinds = (
        ("MME", "perception + cognition", 1, 900.0), ("VQAv2", "accuracy (%)", 2, 16.0),
        ("MSCOCO", "CIDEr", 2, 70.0), ("Flickr30k", "CIDEr", 2, 40.0),
    )  # fmt: skip
    for column, measure, decimals, usual in kinds:
        values = [[usual * random.uniform(0.5, 1.2) for _ in range(rows)] for _ in range(models)]
        scores = [[Score(value, (0.93 * value, 1.05 * value)) for value in row] for row in values]
        if missing and column == "VQAv2":
            scores[-1][0] = Score(None)
            scores[0][0] = Score(scores[0][0].value)  # without an interval
        benchmarks.append(Benchmark(column, measure, decimals, tuple(tuple(row) for row in scores)))
    return Bars(MODELS[:models], TYPES[-rows:], tuple(benchmarks))


def similarity(layers: int, reach: float, lowest: float = 0.0) -> tuple[tuple[float, ...], ...]:
    near = [[math.exp(-abs(a - b) / (reach * layers)) for b in range(layers)] for a in range(layers)]
    return tuple(tuple(lowest + (1 - lowest) * value for value in row) for row in near)


def heat_maps(layers: int, *, maps: int = 2, lowest: float = 0.0, model: str = MODELS[0]) -> HeatMaps:
    kinds = (("Finetune", 0.6, 0.0, 0.624), ("LayerNorm", 0.4, lowest, 0.585))
    its = [LayerSimilarity(method, similarity(layers, reach, low), mean) for method, reach, low, mean in kinds[:maps]]
    return HeatMaps(model, its)


def norm_gradients(method: str, norm: Norm, steps: int, width: float) -> Series:
    """Elements that get smaller while training proceeds, with a mean below 0; at step 2, one far off."""
    random.seed(f"{method} {norm}")
    widths = [width * (0.3 + math.exp(-step / 10)) * random.uniform(0.5, 1.5) for step in range(steps)]
    means = tuple(-0.2 * one for one in widths)
    lowest = [mean - random.uniform(2, 4) * one for mean, one in zip(means, widths, strict=True)]
    highest = [mean + random.uniform(2, 4) * one for mean, one in zip(means, widths, strict=True)]
    if steps > 2:
        highest[1] = 40 * width
    recorded = np.stack([np.array(means), np.array(widths) ** 2, np.array(lowest), np.array(highest)], axis=1)
    return Series(method, norm, range(1, steps + 1), recorded)


def gradients(*, norms: int = 2, methods: int = 2, steps: int = 120, width: float = 3e-4) -> Gradients:
    kinds: tuple[Norm, ...] = ("input", "post")
    series = [
        norm_gradients(method, norm, steps, wide)
        for norm in kinds[:norms]
        for method, wide in (("Finetune", width), ("LayerNorm", width / 3))[:methods]
    ]
    return Gradients(MODELS[-1], 11, series)


COSTS = {
    "cost-paper": paper_costs(),
    "cost-demo": demo_costs(2),
    "cost-one-panel": demo_costs(1),
    "cost-one-method": demo_costs(2, methods=1),
    "cost-five": demo_costs(5),
    "cost-all-oom": oom_costs(80.0),
    "cost-all-oom-of-unknown": oom_costs(None),
}
BARS = {
    "bars-missing": bars(2, 3, missing=True),
    "bars-five": bars(5, 4, missing=True),
    "bars-one": bars(1, 1),
    "bars-one-missing": bars(1, 1, missing=True),
}
HEAT_MAPS = {
    "heat-2": heat_maps(2),
    "heat-4": heat_maps(4, lowest=-0.35),
    "heat-32": heat_maps(32),
    "heat-40": heat_maps(40, model=MODELS[-1]),
    "heat-one-panel": heat_maps(4, maps=1),
}
GRADIENTS = {
    "gradients-one-norm": gradients(norms=1),
    "gradients-two-norms": gradients(),
    "gradients-one-panel": gradients(norms=1, methods=1, steps=3),
    "gradients-one-step": gradients(steps=1),
    "gradients-zero": gradients(width=0.0),
    "gradients-large": gradients(width=20.0),
}
DRAWINGS: dict[str, tuple[Callable[[Any], Figure], Any]] = {
    **{name: (draw_cost, data) for name, data in COSTS.items()},
    **{name: (draw_bars, data) for name, data in BARS.items()},
    **{name: (draw_heat_maps, data) for name, data in HEAT_MAPS.items()},
    **{name: (draw_gradients, data) for name, data in GRADIENTS.items()},
}
SAVED = ("cost-paper", "bars-missing", "heat-4", "gradients-one-norm")


def drawn(name: str) -> Figure:
    """Draw one of DRAWINGS, with the note under it."""
    draw, data = DRAWINGS[name]
    figure = draw(data)
    with look():
        add_note(figure, "demo", NOTE)
    return figure


def write(folder: Path) -> None:
    """Draw and save what SAVED names."""
    for name in SAVED:
        save(drawn(name), folder, name, f"Figure {name}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    assert "matplotlib.pyplot" not in sys.modules
