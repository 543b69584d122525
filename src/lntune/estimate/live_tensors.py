"""Counts the bytes of all tensors that are alive, and the most there were.

    with LiveTensors(model.parameters()) as live:
        step()
    live.peak

Works on real tensors and on fake ones. It sees what PyTorch's operations return; what a kernel takes for itself, and
what the allocator rounds up, it does not see.

This process's resident memory: how much it is, and the most it was since a moment (Linux).
"""

import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Follows every storage from the operation that made it until nothing refers to it.

    Attributes:
        now: bytes alive.
        peak: the most there were since the last :meth:`restart`.
        operation: the one that reached the peak.
    """

    def __init__(self, there: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self.operation = ""
        self._followed: dict[int, weakref.ref[Any]] = {}
        for tensor in there:
            self.follow(tensor, "what was there before")

    def follow(self, tensor: Tensor, operation: str) -> None:
        """Count a tensor's storage, once, for as long as it lives."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._followed or size == 0:
            return

        def gone(_: object) -> None:
            del self._followed[key]
            self.now -= size

        self._followed[key] = weakref.ref(storage, gone)
        self.now += size
        if self.now > self.peak:
            self.peak, self.operation = self.now, operation

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak, self.operation = self.now, "what was there before"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and follow what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta":  # those take no memory
                self.follow(leaf, str(func))
        return result


def resident() -> int:
    """Bytes resident now."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Let :func:`peak_resident` start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_resident() -> int:
    """The most bytes that were resident since :func:`forget_peak`, or since the process began."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/self/status has no {name}")
