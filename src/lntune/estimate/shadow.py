"""PyTorch without numbers: memory, autograd and the operations of an LLM's training step, on tensors that have a size.

A :class:`Buffer` stands for one tensor's memory and is given back when nothing refers to it any more, as with PyTorch's
own tensors; a :class:`Ledger` keeps the account. What a function saves for its backward pass stays held until that has
run, and gradients are made and summed in the order of PyTorch's engine, latest function first.

The operations follow transformers' modeling_llama.py, modeling_gemma3.py and sdpa_attention.py, PEFT's lora/layer.py
and PyTorch's derivatives.yaml. Each says what it makes on the way, what its function saves, and what its backward pass
makes.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from lntune.estimate.shapes import FULL, HALF, Linear, Weight


class Ledger:
    """Bytes held, by ``part`` (what new buffers are for), now and at the ``moment`` when their sum was largest."""

    def __init__(self, moment: str) -> None:
        self.moment, self.part = moment, ""
        self.total = self.peak = 0
        self.parts: dict[str, int] = defaultdict(int)
        self.peak_moment, self.peak_parts = moment, dict[str, int]()

    def take(self, part: str, size: int) -> None:
        """Hold more."""
        self.parts[part] += size
        self.total += size
        if self.total > self.peak:
            self.peak, self.peak_moment, self.peak_parts = self.total, self.moment, self.parts  # copied once it sinks

    def give(self, part: str, size: int) -> None:
        """Hold less."""
        if self.peak_parts is self.parts:
            self.peak_parts = self.parts.copy()
        self.parts[part] -= size
        self.total -= size

    def new(self, size: int, part: str = "") -> "Buffer":
        """A buffer of so many bytes, held until nothing refers to it."""
        return Buffer(self, part or self.part, size)

    def touch(self, *sizes: int, part: str = "") -> None:
        """Hold buffers of these sizes all at once, and give them back."""
        self.take(part or self.part, sum(sizes))
        self.give(part or self.part, sum(sizes))


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
        self.ledger.give(self.part, self.size)
        self.part = part
        self.ledger.take(part, self.size)
        return self


GradientHook = Callable[[Weight, Buffer], None]
"""Told of a weight's finished gradient; what it does not keep is given back."""


@dataclass(slots=True, eq=False)
class Tensor:
    """So many numbers of so many bytes in a buffer, and the function that made them."""

    numel: int
    itemsize: int
    buffer: Buffer
    maker: "Function | None" = None

    @property
    def needs(self) -> bool:
        """Whether a gradient flows through it."""
        return self.maker is not None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.numel * self.itemsize


Backward = Callable[[Buffer], Sequence[Buffer | None]]


@dataclass(slots=True, eq=False)
class Function:
    """An operation's backward pass."""

    inputs: Sequence["Function | Weight | None"]  # what made each; a weight that trains; None: no gradient flows
    backward: Backward | None  # from the gradient of its output to those of its inputs, in order; runs once
    saved: Sequence[Buffer] = ()  # what it keeps held until then
    number: int = field(default_factory=count().__next__)  # later functions run backward first


def _dependencies(root: Function) -> Counter[Function]:
    """How many functions behind ``root`` hand a gradient to each."""
    found: Counter[Function] = Counter()
    waiting = [root]
    while waiting:
        parents = [parent for parent in waiting.pop().inputs if isinstance(parent, Function)]
        waiting += {parent for parent in parents if parent not in found}
        found.update(parents)
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


@dataclass(kw_only=True, eq=False)
class Shadow:
    """A model's operations under a precision."""

    ledger: Ledger
    weight: int  # bytes of a weight
    autocast: bool  # matrix products cast what they read to bfloat16
    keeps_casts: bool  # autocast keeps its copy of a weight that trains until it ends
    device: str  # "cuda" or "cpu", which differ in dropout and in the attention kernel's workspace
    recording: bool = True  # gradients will be asked for
    cast_weights: dict[Weight, Tensor] = field(default_factory=dict)

    def tensor(self, numel: int, itemsize: int, part: str = "") -> Tensor:
        """A new tensor that no function has made yet."""
        return Tensor(numel, itemsize, self.ledger.new(numel * itemsize, part))

    def record(
        self,
        result: Tensor,
        inputs: Sequence[Function | Weight | None],
        backward: Backward | Sequence[int],
        saved: Sequence[Buffer] = (),
    ) -> Tensor:
        """Give the result its function, if a gradient flows through any input.

        In place of ``backward`` the bytes of each input's gradient will do, which are taken where one flows.
        """
        if self.recording and any(inputs):
            if not callable(backward):
                flows = [None if one is None else size for one, size in zip(inputs, backward, strict=True)]
                backward = lambda _: [None if size is None else self.ledger.new(size) for size in flows]  # noqa: E731
            result.maker = Function(inputs, backward, saved)
        return result

    def cast(self, x: Tensor, itemsize: int) -> Tensor:
        """``x.to(dtype)``: the tensor itself if it has that type already. Saves nothing."""
        if x.itemsize == itemsize:
            return x
        return self.record(self.tensor(x.numel, itemsize), [x.maker], [x.size])

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """``x + y``. Saves nothing; both get the same gradient, cast where a summand is narrower."""
        itemsize = max(x.itemsize, y.itemsize)
        casts = [None if one.itemsize == itemsize else one.size for one in (x, y)]

        def backward(gradient: Buffer) -> list[Buffer]:
            return [gradient if size is None else self.ledger.new(size) for size in casts]

        return self.record(self.tensor(x.numel, itemsize), [x.maker, y.maker], backward)

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        """``x * y`` of equal types. Each is saved if the other needs a gradient."""
        saved = [other.buffer for one, other in ((x, y), (y, x)) if one.needs]
        return self.record(self.tensor(x.numel, x.itemsize), [x.maker, y.maker], [x.size, x.size], saved)

    def pointwise(self, x: Tensor, saved: Sequence[Buffer] = ()) -> Tensor:
        """A function of each number of ``x``."""
        return self.record(self.tensor(x.numel, x.itemsize), [x.maker], [x.size], saved)

    def silu(self, x: Tensor) -> Tensor:
        """``F.silu``: saves its input."""
        return self.pointwise(x, [x.buffer])

    def dropout(self, x: Tensor, probability: float) -> Tensor:
        """``F.dropout``: saves its mask, of one byte a number on a GPU and of the input's type on the CPU."""
        if probability == 0:
            return x
        return self.pointwise(x, [self.ledger.new(x.numel if self.device == "cuda" else x.size)])

    def matmul(self, x: Tensor, weight: Weight, rows: int) -> Tensor:
        """``F.linear``: saves its input if the weight trains, the weight if the input needs a gradient.

        Under autocast both are cast to bfloat16 first; the copy of a weight that trains is kept until autocast ends,
        that of a frozen one only as long as something has saved it.
        """
        outputs, inputs = weight.shape
        narrowed = self.autocast and x.itemsize == FULL
        itemsize = HALF if self.autocast else x.itemsize
        inner = self.ledger.new(x.numel * HALF) if narrowed else x.buffer
        held = [inner] if weight.trains else []
        copy = self._cast_weight(weight) if self.autocast else None
        if copy is not None and x.needs:
            held.append(copy.buffer)
        needs, trains = x.needs, weight.trains

        def backward(gradient: Buffer) -> list[Buffer | None]:
            towards_x = self.ledger.new(rows * inputs * itemsize) if needs else None
            towards_weight = self.ledger.new(weight.numel * itemsize) if trains else None
            if needs and narrowed:
                towards_x = self.ledger.new(rows * inputs * FULL)
            return [towards_x, towards_weight]

        maker = copy.maker if copy is not None else weight if trains else None
        return self.record(self.tensor(rows * outputs, itemsize), [x.maker, maker], backward, held)

    def _cast_weight(self, weight: Weight) -> Tensor:
        """Autocast's copy of a weight; the gradient goes back to the weight's own type."""
        if weight in self.cast_weights:
            return self.cast_weights[weight]
        copy = self.tensor(weight.numel, HALF, "autocast copies of weights")
        if weight.trains:
            self.record(copy, [weight], [weight.numel * self.weight])
            if self.keeps_casts:
                self.cast_weights[weight] = copy
        return copy

    def linear(self, x: Tensor, layer: Linear, rows: int) -> Tensor:
        """A linear layer, with LoRA's ``+ B(A(dropout(x))) * scaling`` where it is wrapped."""
        result = self.matmul(x, layer.weight, rows)
        if layer.lora_a is None or layer.lora_b is None:
            return result
        inner = self.matmul(self.dropout(self.cast(x, self.weight), layer.dropout), layer.lora_a, rows)
        update = self.matmul(inner, layer.lora_b, rows)
        del inner
        return self.add(result, self.pointwise(update))  # scaled: saves nothing

    def norm(self, x: Tensor, weight: Weight, rows: int, *, centred: bool = False) -> Tensor:
        """LlamaRMSNorm: computed in float32, cast back, times the weight. Gemma3RMSNorm (centred) is cast back last.

        The square and the product save the float32 input; the last product saves the normalised input only if the
        weight trains. Nothing else is kept.
        """
        numel, itemsize, trains = x.numel, x.itemsize, weight.trains
        wide = self.cast(x, FULL)
        self.ledger.touch(numel * FULL)  # the square, of which the mean is taken
        inverse = self.ledger.new(rows * FULL)

        def backward(gradient: Buffer) -> list[Buffer]:
            product = self.ledger.new(numel * FULL)
            self.ledger.touch(numel * FULL)  # times the input, to be summed over a row
            self.ledger.touch(numel * FULL, numel * FULL)  # of the mean's power, and of the square
            return [product]

        normalised = self.record(self.tensor(numel, FULL), [wide.maker], backward, [wide.buffer, inverse])
        del wide
        inner = FULL if centred else itemsize
        normalised = self.cast(normalised, inner)
        needs = normalised.needs

        def weighted(gradient: Buffer) -> list[Buffer | None]:
            towards_input = self.ledger.new(numel * inner) if needs else None
            if not trains:
                return [towards_input, None]
            self.ledger.touch(numel * inner)  # the product that is summed over all rows
            return [towards_input, self.ledger.new(weight.numel * self.weight)]

        held = [normalised.buffer] if trains else []
        result = self.tensor(numel, FULL if centred else max(itemsize, self.weight))
        result = self.record(result, [normalised.maker, weight if trains else None], weighted, held)
        return self.cast(result, itemsize) if centred else result

    def rotate(self, x: Tensor, itemsize: int) -> Tensor:
        """apply_rotary_pos_emb on queries or keys: ``x * cos + rotate_half(x) * sin``, in the residual's type."""
        before, after = x.size, x.numel * max(itemsize, x.itemsize)
        by_cosine = self.ledger.new(after)
        self.ledger.touch(before // 2, before)  # minus one half, and both halves joined
        joined, by_sine = self.ledger.new(before), self.ledger.new(after)
        del joined
        result = self.tensor(x.numel, max(itemsize, x.itemsize))
        del by_cosine, by_sine

        def backward(gradient: Buffer) -> list[Buffer]:
            # Through the sine the two halves, put into zeros; through the cosine.
            towards = [self.ledger.new(after) for _ in range(3)]
            return [self.ledger.new(before) if before != after else towards[0]]

        return self.record(result, [x.maker], backward)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, rows: int, heads: int) -> Tensor:
        """Fused causal attention: saves queries, keys, values, its result and one float32 a row and head.

        On a GPU the flash kernel's backward pass sums the queries' gradient in float32 and keeps one more number a row.
        """
        itemsize = HALF if self.autocast else q.itemsize
        q, k, v = (self.cast(one, itemsize) for one in (q, k, v))
        sums = self.ledger.new(rows * heads * FULL)
        result = self.tensor(q.numel, itemsize)
        sizes = [q.size, k.size, v.size]
        extra = (q.numel * FULL, rows * heads * FULL) if self.device == "cuda" and itemsize == HALF else ()

        def backward(gradient: Buffer) -> list[Buffer]:
            workspace = [self.ledger.new(size) for size in extra]  # noqa: F841  # held while the gradients are made
            return [self.ledger.new(size) for size in sizes]

        saved = [q.buffer, k.buffer, v.buffer, result.buffer, sums]
        return self.record(result, [q.maker, k.maker, v.maker], backward, saved)

    def mark(self, x: Tensor, passed: Callable[[], None]) -> Tensor:
        """``x`` itself; ``passed`` is called when its gradient comes by."""

        def backward(gradient: Buffer) -> list[Buffer]:
            passed()
            return [gradient]

        return self.record(Tensor(x.numel, x.itemsize, x.buffer), [x.maker], backward)

    def select(self, x: Tensor, numel: int) -> Tensor:
        """``index_select`` of some rows: the gradient is as large as ``x``, and zero elsewhere."""
        return self.record(self.tensor(numel, x.itemsize), [x.maker], [x.size])

    def insert(self, x: Tensor, rows: Tensor) -> Tensor:
        """``index_copy`` of rows into a copy of ``x``: saves the rows; each gets its share of the gradient, copied."""
        saved = [rows.buffer] if rows.needs else []
        return self.record(self.tensor(x.numel, x.itemsize), [x.maker, rows.maker], [x.size, rows.size], saved)

    def spread(self, rows: Tensor, numel: int) -> Tensor:
        """``index_put_`` of rows into zeros: saves nothing; the rows get their share of the gradient, copied."""
        return self.record(self.tensor(numel, rows.itemsize), [rows.maker], [rows.size])

    def look_up(self, table: Weight, rows: int, *, leaf: bool, scaled: bool = False) -> Tensor:
        """``F.embedding``: saves the ids alone; the gradient of the table is as large as the table.

        ``scaled`` words are multiplied by a number, which saves nothing.

        As a ``leaf`` the words of a frozen table ask for a gradient nevertheless: transformers'
        activation_checkpointing_enable sees to that (enable_input_require_grads).
        """
        result = self.tensor(rows * table.shape[1], self.weight)
        if table.trains:
            self.record(result, [table], [table.numel * self.weight])
        if scaled:
            result = self.pointwise(result)
        if table.trains:
            return result
        if leaf:
            result.maker = Function((), lambda gradient: (), [result.buffer])
        return result

    def answer_loss(self, logits: Tensor) -> Function | None:
        """Cross entropy of float32 logits: saves their log softmax; its gradient, then theirs, are as large."""
        size = logits.size
        soft = self.ledger.new(size)

        def backward(gradient: Buffer) -> list[Buffer]:
            of_soft = self.ledger.new(size)
            result = self.ledger.new(size)
            del of_soft
            return [result]

        scalar = Tensor(1, FULL, self.ledger.new(FULL))
        return self.record(scalar, [logits.maker], backward, [soft]).maker
