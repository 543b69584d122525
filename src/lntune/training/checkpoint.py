"""A run's resumable state on disk: written whole or not at all, and used only by the run that it belongs to.

A checkpoint is a folder ``step-<steps done>`` with trainable weights and optimiser state in safetensors files,
``metrics.jsonl`` (the log up to this step) and ``state.json`` (the number of steps, the run's digest, each file's hash
and the names of its tensors, below a hash of all this). One that lacks any of them, or holds other bytes, is left out,
and the one before it is used.
Every rank writes whole tensors, its share of them, so a checkpoint fits any engine and any number of ranks. There is
no random state in it: every step seeds its own random numbers, and the order of samples follows from the seed.
"""

import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from blake3 import blake3
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lntune.config.training import TrainingSettings
from lntune.files import flush
from lntune.model.encode import EncodedSample
from lntune.training import ranks
from lntune.training.engine import LazyTensors

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"
STATE, METRICS = "state.json", "metrics.jsonl"
FILE_BYTES = 2 << 30
"""A rank begins another file after this much, and holds no more of the checkpoint in host memory."""


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

    A kill at any moment leaves the old state or the new one. RuntimeError if not every rank's tensors are there.
    """
    writing, first = folder / UNFINISHED, ranks.rank() == 0
    if first:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
    ranks.barrier()
    written = sum(ranks.of_all(write_tensors(writing, tensors)))
    ranks.barrier()
    if first:
        names = {path.name: sorted(tensor_names(path)) for path in sorted(writing.iterdir())}
        (writing / METRICS).write_text("".join(metrics), encoding="utf-8")
        hashes = {name: _hash(writing / name) for name in (METRICS, *names)}
        found = sum(map(len, names.values()))
        if found != written:
            raise RuntimeError(f"{writing}: holds {found} tensors, not the {written} that all ranks have written")
        state = json.dumps({"step": step, "run": digest, "tensors": names, "blake3": hashes})
        (writing / STATE).write_text(f"{blake3(state.encode()).hexdigest()}\n{state}", encoding="utf-8")
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


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> int:
    """Write this rank's tensors into files of its own, about ``FILE_BYTES`` each; return how many tensors."""
    held: dict[str, Tensor] = {}
    files = written = 0

    def write() -> None:
        nonlocal files, written
        path = folder / f"tensors-{ranks.rank()}-{files}.safetensors"
        save_file(held, path)
        flush(path)
        files, written = files + 1, written + len(held)
        held.clear()

    for name, tensor in tensors:
        held[name] = tensor.cpu().contiguous()
        if sum(value.nbytes for value in held.values()) >= FILE_BYTES:
            write()
    if held:
        write()
    return written


def tensor_names(path: Path) -> Collection[str]:
    """The names in a safetensors file; none if it is missing or not whole."""
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            names: list[str] = file.keys()
            return names
    except (OSError, SafetensorError):
        return []


def load_checkpoint(folder: Path, digest: str, trained: Collection[str]) -> tuple[list[str], LazyTensors] | None:
    """Return the log's lines and the engine's tensors of the run with this digest at its latest checkpoint, or None.

    It must hold the weights of the parameters named ``trained``. One that is not whole, or of another run, is left out
    with a line in the log; it is removed when this run saves its first. All ranks take the one that the first chooses.
    """
    step = ranks.of_all(latest_step(folder, digest, trained) if ranks.rank() == 0 else 0)[0]
    if step == 0:
        return None
    path = folder / f"step-{step}"
    metrics = (path / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(metrics) == step, "one line of the log a step"
    readers: dict[str, Callable[[], Tensor]] = {}
    for file, names in _state(path)["tensors"].items():
        opened = safe_open(path / file, framework="pt")
        readers |= {name: partial(opened.get_tensor, name) for name in names}
    return metrics, LazyTensors(readers)


def latest_step(folder: Path, digest: str, trained: Collection[str]) -> int:
    """The steps done in the latest checkpoint that can be used; 0 without one."""
    for path in checkpoint_folders(folder):
        if not all((path / name).exists() for name in (METRICS, STATE)):
            continue  # an older one, whose removal was cut short
        try:
            state = _state(path)
            if damaged := [name for name, known in state["blake3"].items() if _hash(path / name) != known]:
                raise ValueError(damaged[0])
        except (OSError, ValueError) as error:
            logger.warning("%s: left out, it is damaged (%s)", path, error)
            continue
        stored = {name for names in state["tensors"].values() for name in names}
        if any(f"weight/{name}" not in stored for name in trained):
            logger.warning("%s: left out, it does not hold every rank's tensors", path)
        elif state["run"] != digest:
            other = "made with other settings, seed, samples or base weights"
            logger.warning("%s: ignored, %s; training starts over", path, other)
        else:
            return int(state["step"])
    return 0


def _state(path: Path) -> dict[str, Any]:
    """A checkpoint's ``state.json``, below its own hash; ValueError if that is not its hash."""
    known, _, text = (path / STATE).read_bytes().partition(b"\n")
    if blake3(text).hexdigest() != known.decode("ascii", "replace"):
        raise ValueError(STATE)
    state: dict[str, Any] = json.loads(text)
    return state


def _hash(path: Path) -> str:
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints under ``folder``, latest step first."""
    return sorted(folder.glob("step-*"), key=lambda path: -int(path.name.removeprefix("step-")))
