"""Prints digests of what training and drawing compute, which the CPU's rounding decides.

python digits.py    in the environment that a job would have
"""

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from lntune.config.training import Execution, TrainingSettings
from lntune.model.features import EncodedImages
from lntune.training.loop import train
from tiny_multimodal import image, random_samples, tiny_model

SETTINGS = TrainingSettings(
    learning_rate=1e-2, epochs=2, global_batch=8, warmup_ratio=0.03, weight_decay=0.0, max_length=64, precision="fp32",
)  # fmt: skip


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays)).hexdigest()[:16]


def trained() -> str:
    """Of the weights after ten steps."""
    model = tiny_model(hidden_size=64)
    model.vision.requires_grad_(False)
    source = EncodedImages(model.vision, image, count=7, cache=True, block=3)
    execution = Execution(micro_batch=4, threads=1)
    with tempfile.TemporaryDirectory() as there:
        scratch = Path(there)
        train(model, random_samples(40), source, SETTINGS, execution, 0, scratch, scratch / "log", "test")
    return digest(*(one.detach().numpy() for one in model.parameters()))


def main() -> None:
    numbers = np.random.default_rng(0).normal(size=(64, 70)).astype(np.float32)
    positive = torch.from_numpy(np.abs(numbers) + np.float32(0.01))
    print(
        json.dumps(
            {
                "training": trained(),
                "numpy": digest(np.exp(numbers), np.tanh(numbers), numbers @ numbers.T),
                "torch": digest(positive.sqrt().numpy(), positive.log().numpy(), (positive @ positive.T).numpy()),
                "square roots are exact": bool((positive.sqrt().numpy() == np.sqrt(positive.numpy())).all()),
            }
        )
    )


if __name__ == "__main__":
    main()
