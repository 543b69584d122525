"""A run's resumable state on disk: written whole or not at all, and used only by the run that it belongs to.

A checkpoint is a folder ``step-<steps done>`` with ``tensors.safetensors`` (trainable weights and optimiser
state), ``metrics.jsonl`` (the log up to this step) and ``state.json`` (the number of steps and the run's
digest). There is no random state in it: every step seeds its own random numbers, and the order of samples
follows from the seed.
"""

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, uint8

from lntune.config.training import TrainingSettings
from lntune.model.encode import EncodedSample

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"
FILES = ("tensors.safetensors", "metrics.jsonl", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands: steps done, the lines of its metrics log, and the engine's tensors by name."""

    step: int
    metrics: list[str]
    tensors: dict[str, Tensor]


def run_digest(model: nn.Module, samples: Sequence[EncodedSample], settings: TrainingSettings, seed: int) -> str:
    """Return 64 hex digits over all that a run starts from: settings, seed, samples, and every weight.

    Frozen weights count too: trained weights put into another base model would fit, and be wrong.
    """
    digest = blake3(max_threads=blake3.AUTO)
    digest.update(json.dumps([settings.model_dump(), seed]).encode())
    for sample in samples:
        digest.update(json.dumps([sample.input_ids, sample.labels, sample.image]).encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {parameter.dtype} {list(parameter.shape)} {parameter.requires_grad}".encode())
        digest.update(parameter.detach().cpu().contiguous().flatten().view(uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(folder: Path, digest: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under ``folder``, then remove the older ones.

    All files are on the disk before the folder gets its name, so a kill at any moment leaves either the old
    state or the new one.
    """
    writing = folder / UNFINISHED
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()},
        writing / "tensors.safetensors",
    )
    (writing / "metrics.jsonl").write_text("".join(checkpoint.metrics))
    (writing / "state.json").write_text(json.dumps({"step": checkpoint.step, "run": digest}))
    for path in [*writing.iterdir(), writing]:
        flush_to_disk(path)
    target = folder / f"step-{checkpoint.step}"
    shutil.rmtree(target, ignore_errors=True)
    writing.rename(target)
    flush_to_disk(folder)
    for older in checkpoint_folders(folder):
        if older != target:
            shutil.rmtree(older)


def load_checkpoint(folder: Path, digest: str) -> Checkpoint | None:
    """Return the latest checkpoint under ``folder`` that belongs to the run with this digest, or None.

    One of another run is left out with a line in the log; it is removed when this run saves its first.
    """
    for path in checkpoint_folders(folder):
        if not all((path / name).exists() for name in FILES):
            continue  # an older one, whose removal was cut short
        state = json.loads((path / "state.json").read_text())
        if state["run"] != digest:
            logger.warning(
                "%s: ignored, made with other settings, seed, samples or base weights; training starts over",
                path,
            )
            continue
        metrics = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
        return Checkpoint(state["step"], metrics, load_file(path / "tensors.safetensors"))
    return None


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints under ``folder``, latest step first."""
    return sorted(folder.glob("step-*"), key=lambda path: -int(path.name.removeprefix("step-")))


def flush_to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
