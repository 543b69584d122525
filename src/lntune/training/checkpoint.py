"""A run's resumable state on disk: written whole or not at all, and used only by the run that it belongs to.

A checkpoint is a folder ``step-<steps done>`` with trainable weights and optimiser state in safetensors files,
``metrics.jsonl`` (the log up to this step) and ``state.json`` (the number of steps, the run's digest, the files).
Every rank writes whole tensors, its share of them, so a checkpoint fits any engine and any number of ranks. There is
no random state in it: every step seeds its own random numbers, and the order of samples follows from the seed.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lntune.config.training import TrainingSettings
from lntune.files import flush
from lntune.model.encode import EncodedSample
from lntune.training import ranks

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"
STATE, METRICS = "state.json", "metrics.jsonl"
FILE_BYTES = 2 << 30
"""A rank begins another file after this much, and holds no more of the checkpoint in host memory."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands: steps done, the lines of its metrics log, and the engine's tensors by name."""

    step: int
    metrics: list[str]
    tensors: Mapping[str, Tensor]


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of safetensors files, each read when it is asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.files: dict[str, Any] = {}
        for path in paths:
            file = safe_open(path, framework="pt")
            self.files |= dict.fromkeys(file.keys(), file)  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self.files[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


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
        digest.update(ranks.raw_bytes(parameter))
    return digest.hexdigest()


def save_checkpoint(
    folder: Path, digest: str, step: int, metrics: Sequence[str], tensors: Iterable[tuple[str, Tensor]]
) -> None:
    """Write a checkpoint under ``folder``, then remove the older ones; every rank gives its share of the tensors.

    All files are on the disk before the folder gets its name, so a kill at any moment leaves either the old
    state or the new one.
    """
    writing, first = folder / UNFINISHED, ranks.rank() == 0
    if first:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
    ranks.barrier()
    write_tensors(writing, tensors)
    ranks.barrier()
    if first:
        names = sorted(path.name for path in writing.iterdir())
        (writing / METRICS).write_text("".join(metrics))
        (writing / STATE).write_text(json.dumps({"step": step, "run": digest, "tensors": names}))
        for path in (writing / METRICS, writing / STATE, writing):
            flush(path)
        target = folder / f"step-{step}"
        shutil.rmtree(target, ignore_errors=True)
        writing.rename(target)
        flush(folder)
        for older in checkpoint_folders(folder):
            if older != target:
                shutil.rmtree(older)
    ranks.barrier()


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Write this rank's tensors into files of its own, about ``FILE_BYTES`` each."""
    held: dict[str, Tensor] = {}
    files = 0

    def write() -> None:
        nonlocal files
        path = folder / f"tensors-{ranks.rank()}-{files}.safetensors"
        save_file(held, path)
        flush(path)
        held.clear()
        files += 1

    for name, tensor in tensors:
        held[name] = tensor.cpu().contiguous()
        if sum(value.nbytes for value in held.values()) >= FILE_BYTES:
            write()
    if held:
        write()


def load_checkpoint(folder: Path, digest: str) -> Checkpoint | None:
    """Return the latest checkpoint under ``folder`` that belongs to the run with this digest, or None.

    One of another run is left out with a line in the log; it is removed when this run saves its first.
    """
    for path in checkpoint_folders(folder):
        if not all((path / name).exists() for name in (METRICS, STATE)):
            continue  # an older one, whose removal was cut short
        state = json.loads((path / STATE).read_text())
        files = [path / name for name in state["tensors"]]
        if not all(file.exists() for file in files):
            continue
        if state["run"] != digest:
            if ranks.rank() == 0:
                logger.warning(
                    "%s: ignored, made with other settings, seed, samples or base weights; training starts over",
                    path,
                )
            continue
        metrics = (path / METRICS).read_text().splitlines(keepends=True)
        return Checkpoint(state["step"], metrics, StoredTensors(files))
    return None


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints under ``folder``, latest step first."""
    return sorted(folder.glob("step-*"), key=lambda path: -int(path.name.removeprefix("step-")))
