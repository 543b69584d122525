"""What ranks of the tests run: training runs of a tiny model, one after another, that leave their results on disk.

torchrun ... -m deepspeed_cells FOLDER             (by lntune.training.launch; FOLDER holds the cells)
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lntune.config.training import Execution, LoraSettings, TrainingSettings

SETTINGS = {
    "learning_rate": 1e-2,
    "epochs": 1.0,
    "global_batch": 8,
    "warmup_ratio": 0.03,
    "weight_decay": 0.01,
    "max_length": 64,
    "precision": "fp32",
    "gradient_checkpointing": False,
}
NORM = "llm.model.layers.0.input_layernorm.weight"


def train_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Train one tiny model as the cell says; leave weights and log in its folder; return what can be compared.

    Keys: folder, method; and optionally settings, execution, samples, dropout, large (an embedding that ZeRO-3 does not
    keep whole), plant (another connector on the second rank, or a death in a step).
    """
    import torch
    from safetensors.torch import save_file

    from lntune.model.device import place
    from lntune.model.features import EncodedImages
    from lntune.model.tuning import apply_method
    from lntune.training import ranks
    from lntune.training.loop import train
    from tiny_multimodal import picture, random_samples, tiny_model

    folder = Path(cell["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    settings = TrainingSettings.model_validate(SETTINGS | cell.get("settings", {}))
    execution = Execution.model_validate({"micro_batch": 3, "threads": 1, **cell.get("execution", {})})
    dropout = cell.get("dropout", 0.0)
    size = {"hidden_size": 64, "vocab_size": 2000} if cell.get("large") else {}
    model = tiny_model(attention_dropout=dropout, **size)
    apply_method(model, cell["method"], LoraSettings(rank=3, alpha=6, dropout=dropout), seed=0)
    if cell.get("plant") == "connector" and ranks.rank() == 1:
        model.connector.bias.data[0] += 1e-3
    place(model, settings.precision)
    samples = random_samples(cell.get("samples", 40))
    if cell.get("plant") == "text only":
        samples = [sample for sample in samples if sample.image is None]
    source = EncodedImages(model.vision, picture, count=7, cache=True, block=3)
    at, victim, number = cell.get("die", (-1, 0, 0))

    def recorder(step: int, gradients: Mapping[str, torch.Tensor]) -> dict[str, object]:
        if step == at and ranks.rank() == victim:
            if number == 0:
                raise ValueError("planted in a step")
            os.kill(os.getpid(), number)
            if number == signal.SIGTERM:
                Path(os.environ["LNTUNE_STOP_FILE"]).exists()
        return {"norm_gradient": float(gradients[NORM].norm())} if NORM in gradients else {}

    result = train(
        model, samples, source, settings, execution, 0, folder / "scratch", folder / "metrics.jsonl", "cell",
        recorder=recorder if cell.get("record", True) else None,
    )  # fmt: skip
    if result.weights:
        save_file({name: value.contiguous() for name, value in result.weights.items()}, folder / "tuned.safetensors")
    return {"losses": result.losses, "resumed_at": result.resumed_at}


def main(folder: Path) -> int:
    from lntune.training.launch import read_document, run_as_rank

    return run_as_rank(folder, lambda: [train_cell(cell) for cell in read_document(folder)["cells"]])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
