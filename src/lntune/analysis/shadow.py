"""A dry run of PyTorch's autograd: tensors that have a size and no numbers.

Operations (:mod:`lntune.analysis.shadow_llama`) make tensors and functions as PyTorch's make them: what a function
saves for its backward pass stays held until that has run, and gradients are made and summed in the order of PyTorch's
engine, latest function first.
"""

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from lntune.analysis.ledger import Buffer, Ledger
from lntune.analysis.skeleton import Weight

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
