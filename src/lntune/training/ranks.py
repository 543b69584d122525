"""The processes that share a training run: which one this is, and what all of them agree on.

Without :func:`start` there is one process, rank 0 of 1, and everything here is free.
"""

import os
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from blake3 import blake3
from torch import Tensor

from lntune.errors import UserError
from lntune.files import write_whole
from lntune.model.device import device

PATIENCE = timedelta(minutes=60)
"""After this long in one collective operation the others give up on a rank that does not come.

Long, since the first writes files alone; a rank that dies is noticed at once by its launcher.
"""


def start(folder: Path) -> None:
    """Join the ranks of this node: NCCL between GPUs, gloo between processes without one.

    The first leaves in ``folder`` at which port they meet: one that the system has picked, so that nobody else has it.
    """
    path, number, kind = folder / "port", int(os.environ["RANK"]), vars(dist)["TCPStore"]  # no type names the last
    while number > 0 and not path.exists():
        time.sleep(0.02)
    port = int(path.read_bytes()) if number > 0 else 0
    store = kind("127.0.0.1", port, None, number == 0, PATIENCE, wait_for_workers=False)
    if number == 0:
        write_whole(path, str(store.port))
    on_gpu = device().type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device())
    else:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are on this node
    world, backend = int(os.environ["WORLD_SIZE"]), "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=number, world_size=world)


def rank() -> int:
    """This process's number among the ranks."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes share the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every rank is here.

    Only this makes the host wait: on NCCL every other collective returns once its work is queued on the GPU, and the
    host waits no sooner than it reads what came out.
    """
    if ranks() > 1:
        dist.barrier(device_ids=[device().index] if dist.get_backend() == "nccl" else None)


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over the ranks."""
    if ranks() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def anywhere(*flags: bool) -> list[bool]:
    """Whether each flag is set on any rank."""
    if ranks() == 1:
        return [*flags]
    return [number > 0 for number in total(torch.tensor(flags, dtype=torch.float32, device=device())).tolist()]


def of_all(value: int) -> list[int]:
    """Every rank's value (not negative), in order of rank."""
    return [int.from_bytes(row, "big") for row in _gathered(value.to_bytes(8, "big"))]


def from_first(compute: Callable[[], str]) -> str:
    """What rank 0 computes, 64 hex digits, on every rank."""
    mine = bytes.fromhex(compute()) if rank() == 0 else bytes(32)
    assert len(mine) == 32
    return _gathered(mine)[0].hex()


def check_same(weights: Iterable[tuple[str, Tensor]], when: str) -> None:
    """UserError, on every rank, unless all ranks hold the same weights to the byte.

    LLaVA once drew another connector on every rank (LLaVA issue 1440); this finds it before a GPU-week is spent.
    """
    if ranks() == 1:
        return
    digest = blake3(max_threads=blake3.AUTO)
    for name, value in weights:
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(raw_bytes(value))
    digests = _gathered(digest.digest())
    odd = [str(number) for number, found in enumerate(digests) if found != digests[0]]
    if odd:
        raise UserError(
            f"rank {', '.join(odd)} holds other weights than rank 0 {when}; all ranks must load the same files with "
            "the same versions of the packages"
        )


def raw_bytes(value: Tensor) -> memoryview:
    """A tensor's values as they lie in memory."""
    data: memoryview = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    return data


def _gathered(mine: bytes) -> list[bytes]:
    """Every rank's bytes, of which all have as many, in order of rank."""
    if ranks() == 1:
        return [mine]
    tensor = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(device())
    rows = [torch.empty_like(tensor) for _ in range(ranks())]
    dist.all_gather(rows, tensor)
    return [bytes(row.cpu().tolist()) for row in rows]
