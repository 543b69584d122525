"""Keeps the account of a dry run: what is held, for what, and what it was when it was most.

A :class:`Buffer` stands for one tensor's memory. As with PyTorch's own tensors it is given back when nothing refers to
it any more, so the dry run frees what the real step frees, when it does.

A dry run of PyTorch's autograd: tensors that have a size and no numbers.

Operations (:mod:`lntune.estimate.memory`) make tensors and functions as PyTorch's make them: what a function
saves for its backward pass stays held until that has run, and gradients are made and summed in the order of PyTorch's
engine, latest function first.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from lntune.estimate.shapes import Weight


class Ledger:
    """Bytes held, by part, now and at the moment when their sum was largest."""

    def __init__(self) -> None:
        self.parts: dict[str, int] = {}
        self.total = 0
        self.peak = 0
        self.peak_moment = ""
        self.moment = ""
        self.part = ""
        """What new buffers are for, if they do not say otherwise."""
        self._peak_parts: Mapping[str, int] = {}
        self._at_peak = False

    @property
    def peak_parts(self) -> Mapping[str, int]:
        """What made up the peak."""
        return self.parts.copy() if self._at_peak else self._peak_parts

    def take(self, part: str, size: int) -> None:
        """Hold more."""
        self.parts[part] = self.parts.get(part, 0) + size
        self.total += size
        if self.total > self.peak:
            self.peak = self.total
            self.peak_moment = self.moment
            self._at_peak = True

    def give(self, part: str, size: int) -> None:
        """Hold less."""
        self._before_change()
        self.parts[part] -= size
        self.total -= size

    def move(self, before: str, after: str, size: int) -> None:
        """Enter what is held under another part."""
        self._before_change()
        self.parts[before] -= size
        self.parts[after] = self.parts.get(after, 0) + size

    def _before_change(self) -> None:
        """Write down the parts before they are others than at the peak; copying them at every rise would take long."""
        if self._at_peak:
            self._peak_parts, self._at_peak = self.parts.copy(), False

    def new(self, size: int, part: str = "") -> "Buffer":
        """A buffer of so many bytes, held until nothing refers to it."""
        return Buffer(self, part or self.part, size)

    def touch(self, *sizes: int, part: str = "") -> None:
        """Hold buffers of these sizes all at once, and give them back."""
        total = sum(sizes)
        self.take(part or self.part, total)
        self.give(part or self.part, total)


class Buffer:
    """One tensor's memory."""

    __slots__ = ("ledger", "part", "size")

    def __init__(self, ledger: Ledger, part: str, size: int) -> None:
        self.ledger, self.part, self.size = ledger, part, size
        ledger.take(part, size)

    def __del__(self) -> None:
        self.ledger.give(self.part, self.size)

    def rename(self, part: str) -> "Buffer":
        """Enter it under another part."""
        self.ledger.move(self.part, part, self.size)
        self.part = part
        return self


GradientHook = Callable[[Weight, Buffer], None]
"""Told of a weight's finished gradient; what it does not keep is given back."""


class Tensor:
    """So many numbers of so many bytes in a buffer, and the function that made them."""

    __slots__ = ("buffer", "itemsize", "maker", "numel")

    def __init__(self, numel: int, itemsize: int, buffer: Buffer, maker: "Function | None" = None) -> None:
        self.numel, self.itemsize, self.buffer, self.maker = numel, itemsize, buffer, maker

    @property
    def needs(self) -> bool:
        """Whether a gradient flows through it."""
        return self.maker is not None


Backward = Callable[[Buffer], Sequence[Buffer | None]]


class Function:
    """An operation's backward pass.

    Attributes:
        inputs: the functions that made its inputs; a weight for one that trains; None where no gradient flows.
        backward: from the gradient of its output to those of its inputs, in the same order.
        saved: what it keeps held until then.
    """

    __slots__ = ("backward", "inputs", "number", "saved")

    _numbers = count()

    def __init__(
        self, inputs: Sequence["Function | Weight | None"], backward: Backward, saved: Sequence[Buffer] = ()
    ) -> None:
        self.number = next(Function._numbers)
        self.inputs, self.saved = tuple(inputs), tuple(saved)
        self.backward: Backward | None = backward


class Source(Function):
    """Where a graph's gradient ends: the input of a checkpointed block, whose gradient goes on outside."""

    __slots__ = ("gradient",)

    def __init__(self) -> None:
        super().__init__((), lambda gradient: ())
        self.gradient: Buffer | None = None


def _dependencies(root: Function) -> dict[Function, int]:
    found: dict[Function, int] = {}
    waiting = [root]
    while waiting:
        for parent in waiting.pop().inputs:
            if isinstance(parent, Function):
                if parent not in found:
                    found[parent] = 0
                    waiting.append(parent)
                found[parent] += 1
    return found


def run_backward(root: Function, gradient: Buffer, hook: GradientHook) -> None:
    """Run the graph behind ``root``, freeing as it goes.

    Gradients that meet are summed into the first of them, as PyTorch's engine does where nothing else uses it.
    """
    missing = _dependencies(root)
    held: dict[Function, Buffer] = {root: gradient}
    del gradient
    ready = [(-root.number, root)]
    while ready:
        function = heapq.heappop(ready)[1]
        got = held.pop(function)
        if isinstance(function, Source):
            function.gradient = got
            continue
        assert function.backward is not None, "a graph runs backward once"
        made = list(function.backward(got))
        del got
        function.backward, function.saved = None, ()
        for place, parent in enumerate(function.inputs):
            value, made[place] = made[place], None
            if parent is None:
                continue
            assert value is not None, "a gradient flows there"
            if isinstance(parent, Weight):
                hook(parent, value)
                del value
                continue
            held.setdefault(parent, value)
            del value
            missing[parent] -= 1
            if missing[parent] == 0:
                heapq.heappush(ready, (-parent.number, parent))


class Shadow:
    """What the operations share: the ledger, and the bytes of numbers under a precision.

    Attributes:
        weight: bytes of a weight.
        autocast: whether matrix products cast what they read to bfloat16.
        keeps_casts: whether autocast keeps its copy of a weight that trains until it ends.
        recording: whether gradients will be asked for.
        device: "cuda" or "cpu"; they differ in dropout and in the attention kernel's workspace.
    """

    def __init__(self, ledger: Ledger, weight: int, *, autocast: bool, device: str, keeps_casts: bool) -> None:
        self.ledger, self.weight, self.autocast, self.device = ledger, weight, autocast, device
        self.keeps_casts = keeps_casts
        self.recording = True
        self.cast_weights: dict[Weight, Tensor] = {}

    def tensor(self, numel: int, itemsize: int, part: str = "") -> Tensor:
        """A new tensor that no function has made yet."""
        return Tensor(numel, itemsize, self.ledger.new(numel * itemsize, part))

    def record(
        self,
        result: Tensor,
        inputs: Sequence[Function | Weight | None],
        backward: Backward,
        saved: Sequence[Buffer] = (),
    ) -> Tensor:
        """Give the result its function, if a gradient flows through any input."""
        if self.recording and any(one is not None for one in inputs):
            result.maker = Function(inputs, backward, saved)
        return result
