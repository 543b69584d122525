"""Collectives that behave as NCCL's do, over gloo: put this folder on the PYTHONPATH of ranks.

A collective returns to the host before the other ranks have come, and the host waits for what comes out no sooner than
it reads it; only ``barrier`` makes it wait. On a GPU the stream orders work on one tensor; here every operation that
touches a tensor first waits for the collectives that write it.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from typing import Any

COLLECTIVES = (
    "all_reduce", "broadcast", "reduce", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor",
    "_all_gather_base", "_reduce_scatter_base",
)  # fmt: skip
ON_HOST = ("cpu", "numpy", "tolist", "__array__")
"""What reads a CPU tensor's memory without an operation that could be caught; on a GPU each of them waits."""


def install() -> None:
    """Make the collectives of torch.distributed late, in this process."""
    import torch
    import torch.distributed as dist
    from torch.utils._python_dispatch import TorchDispatchMode

    unfinished: dict[int, list[tuple[Any, Any]]] = {}  # by storage: the work, and the tensors, so that they stay

    def tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
        for value in values:
            if isinstance(value, torch.Tensor):
                yield value
            elif isinstance(value, (list, tuple)):
                yield from tensors(value)

    def settle(*values: Any) -> None:
        for tensor in tensors(values) if unfinished else ():
            for work, _ in unfinished.pop(tensor.untyped_storage().data_ptr(), ()):
                work.wait()

    class Reading(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            settle(args, *(kwargs or {}).values())
            return operation(*args, **(kwargs or {}))

    class Queued:
        """What a collective returns where it is asked for its work; waiting is the stream's."""

        def wait(self, timeout: Any = None) -> bool:
            return True

        def is_completed(self) -> bool:
            return True

    def late(collective: Any) -> Any:
        @functools.wraps(collective)
        def call(*args: Any, async_op: bool = False, **kwargs: Any) -> Any:
            settle(args, *kwargs.values())
            work = collective(*args, async_op=True, **kwargs)
            for tensor in tensors((args, *kwargs.values())) if work is not None else ():
                unfinished.setdefault(tensor.untyped_storage().data_ptr(), []).append((work, tensor))
            return Queued() if async_op else None

        return call

    def host_reads(method: Any) -> Any:
        @functools.wraps(method)
        def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            settle(self)
            return method(self, *args, **kwargs)

        return call

    for name in COLLECTIVES:
        if hasattr(dist, name):
            wrapped = late(getattr(dist, name))
            setattr(dist, name, wrapped)
            setattr(dist.distributed_c10d, name, wrapped)
    for name in ON_HOST:
        setattr(torch.Tensor, name, host_reads(getattr(torch.Tensor, name)))
    Reading().__enter__()


if "LNTUNE_RANK_FOLDER" in os.environ:
    install()
