"""What ranks of the tests run: training runs of a tiny model, one after another, that leave their results on disk.

python -m deepspeed_cells FOLDER             (by lntune.training.launch; FOLDER holds the cells)
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from lntune.config.training import Execution, LoraSettings, TrainingSettings
from lntune.errors import UserError

Cell = Mapping[str, Any]
"""folder, method; and optionally settings, execution, samples, dropout; large: an embedding and a head that ZeRO-3 does
not keep whole; plant: what goes wrong or is otherwise, by name; at: the step in which it does, on the last rank; slow:
the last rank writes its part of a checkpoint later than the others."""

SETTINGS = {
    "learning_rate": 1e-2,
    "epochs": 1.0,
    "global_batch": 8,
    "warmup_ratio": 0.03,
    "weight_decay": 0.01,
    "max_length": 64,
    "precision": "fp32",
}


def train_cell(cell: Cell) -> dict[str, Any]:
    """Train one tiny model as the cell says; leave weights and log in its folder; return losses and resumed_at."""
    import torch
    from safetensors.torch import save_file

    from lntune.model.device import place
    from lntune.model.features import EncodedImages
    from lntune.model.tuning import apply_method
    from lntune.training import ranks
    from lntune.training.endings import Diverged
    from lntune.training.loop import train
    from lntune.training.norm_gradients import norm_gradient_recorder
    from tiny_multimodal import image, random_samples, tiny_model

    folder, plant = Path(cell["folder"]), cell.get("plant")
    folder.mkdir(parents=True, exist_ok=True)
    settings = TrainingSettings.model_validate(SETTINGS | cell.get("settings", {}))
    execution = Execution.model_validate({"micro_batch": 3, "threads": 1, **cell.get("execution", {})})
    size = {"hidden_size": 64, "vocab_size": 2000} if cell.get("large") else {}
    model = tiny_model(attention_dropout=cell.get("dropout", 0.0), **size)
    apply_method(model, cell["method"], LoraSettings(rank=3, alpha=6, dropout=cell.get("dropout", 0.0)), seed=0)
    with torch.no_grad():
        if plant == "base":
            model.llm.lm_head.weight[3, 3] += 1
        if plant == "connector" and ranks.rank() == 1:
            model.connector.bias[0] += 1e-3
    place(model, settings.precision)
    samples = random_samples(cell.get("samples", 38))
    if plant == "text only":
        samples = [sample for sample in samples if sample.image is None]

    record = norm_gradient_recorder(model)

    def recorder(step: int, gradients: Mapping[str, torch.Tensor]) -> Mapping[str, object]:
        if step == cell.get("at") and ranks.rank() == ranks.ranks() - 1:
            PLANTS[str(plant)]()
        return record(step, gradients) if record else {}

    def picture(index: int) -> torch.Tensor:
        broken = plant == "broken picture" and ranks.rank() == ranks.ranks() - 1
        return image(index) * float("nan") if broken else image(index)

    source = EncodedImages(model.vision, picture, count=7, cache=True, block=3)
    scratch, log = folder / "scratch", folder / "metrics.jsonl"
    try:
        result = train(model, samples, source, settings, execution, 0, scratch, log, "cell", recorder=recorder)
    except Diverged as error:
        return {"diverged": error.run.model_dump(), "steps": ranks.of_all(error.run.step)}
    if result.weights:
        save_file({name: value.contiguous() for name, value in result.weights.items()}, folder / "tuned.safetensors")
    return {"losses": result.losses, "resumed_at": result.resumed_at}


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train a cell; one that is stopped goes on from its checkpoint, as its next attempt would."""
    from safetensors.torch import save_file

    from lntune.training import checkpoint, ranks
    from lntune.training.interruption import Interrupted

    slow = cell.get("slow") and ranks.rank() == ranks.ranks() - 1
    with mock.patch.object(checkpoint, "save_file", late(save_file) if slow else save_file):
        try:
            return train_cell(cell)
        except Interrupted as stop:
            return {"stopped": str(stop), **train_cell({**cell, "plant": None})}


def late(save: Callable[..., None]) -> Callable[..., None]:
    def call(*args: Any) -> None:
        time.sleep(0.5)
        save(*args)

    return call


def _user_error() -> None:
    raise UserError("samples.jsonl: planted; fix it")


def _defect() -> None:
    raise ValueError("planted")


PLANTS: dict[str, Callable[[], None]] = {
    "stop": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "user error": _user_error,
    "defect": _defect,
    "None": lambda: None,
}


def main(folder: Path) -> None:
    """Run the folder's cells as one of the ranks, and end."""
    from lntune.training.launch import read_document, run_as_rank

    def work() -> list[dict[str, Any]]:
        import deepspeed  # noqa: F401

        import lntune.training.loop  # noqa: F401

        gc.freeze()  # DeepSpeed calls the collector with each engine; it need not look at what was imported
        return [run_cell(cell) for cell in read_document(folder)["cells"]]

    run_as_rank(folder, work)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
