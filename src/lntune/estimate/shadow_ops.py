"""The operations of a LLaMA's training step as PyTorch runs them, on tensors without numbers.

Each says what it makes on the way, what its function saves, and what its backward pass makes. The sources are
transformers' modeling_llama.py and sdpa_attention.py, PEFT's lora/layer.py and PyTorch's derivatives.yaml.
"""

from collections.abc import Callable, Sequence

from lntune.estimate.shadow import Buffer, Function, Shadow, Tensor
from lntune.estimate.shapes import Linear, Weight

FULL, HALF = 4, 2
"""Bytes of a float32 and of a bfloat16."""


def cast(run: Shadow, x: Tensor, itemsize: int) -> Tensor:
    """``x.to(dtype)``: the tensor itself if it has that type already. Saves nothing."""
    if x.itemsize == itemsize:
        return x
    numel, before = x.numel, x.itemsize
    return run.record(run.tensor(numel, itemsize), [x.maker], lambda gradient: [run.ledger.new(numel * before)])


def add(run: Shadow, x: Tensor, y: Tensor) -> Tensor:
    """``x + y``. Saves nothing; both get the same gradient, cast where a summand is narrower."""
    itemsize, numel = max(x.itemsize, y.itemsize), x.numel
    sizes = (x.itemsize, y.itemsize)

    def backward(gradient: Buffer) -> list[Buffer]:
        return [gradient if size == itemsize else run.ledger.new(numel * size) for size in sizes]

    return run.record(run.tensor(numel, itemsize), [x.maker, y.maker], backward)


def multiply(run: Shadow, x: Tensor, y: Tensor) -> Tensor:
    """``x * y`` of equal types. Each is saved if the other needs a gradient."""
    numel, itemsize = x.numel, x.itemsize
    saved = [other.buffer for one, other in ((x, y), (y, x)) if one.needs]
    wanted = (x.needs, y.needs)

    def backward(gradient: Buffer) -> list[Buffer | None]:
        return [run.ledger.new(numel * itemsize) if needs else None for needs in wanted]

    return run.record(run.tensor(numel, itemsize), [x.maker, y.maker], backward, saved)


def silu(run: Shadow, x: Tensor) -> Tensor:
    """``F.silu``: saves its input."""
    size = x.numel * x.itemsize
    backward_buffers = lambda gradient: [run.ledger.new(size)]  # noqa: E731
    return run.record(run.tensor(x.numel, x.itemsize), [x.maker], backward_buffers, [x.buffer])


def matmul(run: Shadow, x: Tensor, weight: Weight, rows: int) -> Tensor:
    """``F.linear``: saves its input if the weight trains, the weight if the input needs a gradient.

    Under autocast both are cast to bfloat16 first; the copy of a weight that trains is kept until autocast ends, that
    of a frozen one only as long as something has saved it.
    """
    outputs, inputs = weight.shape
    before, held = x.itemsize, [x.buffer] if weight.trains else []
    narrowed = run.autocast and x.itemsize == FULL
    if narrowed:
        inner = run.ledger.new(x.numel * HALF)
        held = [inner] if weight.trains else []
    itemsize = HALF if run.autocast else x.itemsize
    copy = _cast_weight(run, weight) if run.autocast else None
    if copy is not None and x.needs:
        held.append(copy.buffer)
    needs, trains = x.needs, weight.trains

    def backward(gradient: Buffer) -> list[Buffer | None]:
        towards_x = run.ledger.new(rows * inputs * itemsize) if needs else None
        towards_weight = run.ledger.new(weight.numel * itemsize) if trains else None
        if towards_x is not None and narrowed:
            towards_x = run.ledger.new(rows * inputs * before)
        return [towards_x, towards_weight]

    maker = copy.maker if copy is not None else weight if trains else None
    return run.record(run.tensor(rows * outputs, itemsize), [x.maker, maker], backward, held)


def _cast_weight(run: Shadow, weight: Weight) -> Tensor:
    """Autocast's copy of a weight; the gradient goes back to the weight's own type."""
    if weight in run.cast_weights:
        return run.cast_weights[weight]
    size = weight.numel * run.weight
    copy = run.tensor(weight.numel, HALF, "autocast copies of weights")
    if weight.trains:
        run.record(copy, [weight], lambda gradient: [run.ledger.new(size)])
    if weight.trains and run.keeps_casts:
        run.cast_weights[weight] = copy
    return copy


def linear(run: Shadow, x: Tensor, layer: Linear, rows: int) -> Tensor:
    """A linear layer, with LoRA's ``+ B(A(dropout(x))) * scaling`` where it is wrapped."""
    result = matmul(run, x, layer.weight, rows)
    if layer.lora_a is None or layer.lora_b is None:
        return result
    inner = matmul(run, dropout(run, cast(run, x, run.weight), layer.dropout), layer.lora_a, rows)
    update = matmul(run, inner, layer.lora_b, rows)
    del inner
    return add(run, result, scale(run, update))


def scale(run: Shadow, x: Tensor) -> Tensor:
    """``x`` times a number: saves nothing."""
    numel, itemsize = x.numel, x.itemsize
    return run.record(run.tensor(numel, itemsize), [x.maker], lambda gradient: [run.ledger.new(numel * itemsize)])


def dropout(run: Shadow, x: Tensor, probability: float) -> Tensor:
    """``F.dropout``: saves its mask, of one byte a number on a GPU and of the input's type on the CPU."""
    if probability == 0:
        return x
    numel, itemsize = x.numel, x.itemsize
    mask = run.ledger.new(numel * (1 if run.device == "cuda" else itemsize))
    return run.record(
        run.tensor(numel, itemsize), [x.maker], lambda gradient: [run.ledger.new(numel * itemsize)], [mask]
    )


def norm(run: Shadow, x: Tensor, weight: Weight, rows: int) -> Tensor:
    """LlamaRMSNorm: computed in float32, cast back, times the weight.

    The square and the product save the float32 input; the last product saves the normalised input only if the weight
    trains. Nothing else is kept.
    """
    numel, itemsize = x.numel, x.itemsize
    wide = cast(run, x, FULL)
    run.ledger.touch(numel * FULL)  # the square, of which the mean is taken
    inverse = run.ledger.new(rows * FULL)
    maker = wide.maker

    def backward(gradient: Buffer) -> list[Buffer]:
        product = run.ledger.new(numel * FULL)
        run.ledger.touch(numel * FULL)  # times the input, to be summed over a row
        power, square = run.ledger.new(numel * FULL), run.ledger.new(numel * FULL)  # of the mean of the square
        del power, square
        return [product]

    saved = [wide.buffer, inverse]
    normalised = run.record(run.tensor(numel, FULL), [maker], backward, saved)
    del wide, saved
    normalised = cast(run, normalised, itemsize)
    needs, trains = normalised.needs, weight.trains

    def weighted(gradient: Buffer) -> list[Buffer | None]:
        towards_input = run.ledger.new(numel * itemsize) if needs else None
        if not trains:
            return [towards_input, None]
        run.ledger.touch(numel * itemsize)  # the product that is summed over all rows
        return [towards_input, run.ledger.new(weight.numel * run.weight)]

    held = [normalised.buffer] if trains else []
    result = run.tensor(numel, max(itemsize, run.weight))
    return run.record(result, [normalised.maker, weight if trains else None], weighted, held)


def rotate(run: Shadow, x: Tensor, itemsize: int) -> Tensor:
    """apply_rotary_pos_emb on queries or keys: ``x * cos + rotate_half(x) * sin``, in the residual's type."""
    numel, before = x.numel, x.itemsize
    size = numel * max(itemsize, before)
    first = run.ledger.new(size)  # x * cos
    run.ledger.touch(numel * before // 2, numel * before)  # minus one half, and both halves joined
    half, second = run.ledger.new(numel * before), run.ledger.new(size)
    del half
    result = run.tensor(numel, max(itemsize, before))
    del first, second

    def backward(gradient: Buffer) -> list[Buffer]:
        towards = [run.ledger.new(size), run.ledger.new(size)]  # through the sine: the two halves, put into zeros
        towards.append(run.ledger.new(size))  # through the cosine
        return [run.ledger.new(numel * before) if before != max(itemsize, before) else towards[0]]

    return run.record(result, [x.maker], backward)


def attention(run: Shadow, q: Tensor, k: Tensor, v: Tensor, rows: int, heads: int) -> Tensor:
    """Fused causal attention: saves queries, keys, values, its result and one float32 a row and head.

    On a GPU the flash kernel's backward pass sums the queries' gradient in float32 and keeps one more number a row.
    """
    itemsize = HALF if run.autocast else q.itemsize
    q, k, v = (cast(run, one, itemsize) for one in (q, k, v))
    sums = run.ledger.new(rows * heads * FULL)
    result = run.tensor(q.numel, itemsize)
    sizes = [one.numel * itemsize for one in (q, k, v)]
    extra = (q.numel * FULL, rows * heads * FULL) if run.device == "cuda" and itemsize == HALF else ()

    def backward(gradient: Buffer) -> list[Buffer]:
        workspace = [run.ledger.new(size) for size in extra]
        made = [run.ledger.new(size) for size in sizes]
        del workspace
        return made

    saved = [q.buffer, k.buffer, v.buffer, result.buffer, sums]
    return run.record(result, [q.maker, k.maker, v.maker], backward, saved)


def mark(run: Shadow, x: Tensor, passed: Callable[[], None]) -> Tensor:
    """``x`` itself; ``passed`` is called when its gradient comes by."""

    def backward(gradient: Buffer) -> list[Buffer]:
        passed()
        return [gradient]

    return run.record(Tensor(x.numel, x.itemsize, x.buffer), [x.maker], backward)


def select(run: Shadow, x: Tensor, numel: int) -> Tensor:
    """``index_select`` of some rows: its gradient is as large as ``x`` and zero elsewhere."""
    size = x.numel * x.itemsize
    return run.record(run.tensor(numel, x.itemsize), [x.maker], lambda gradient: [run.ledger.new(size)])


def insert(run: Shadow, x: Tensor, rows: Tensor) -> Tensor:
    """``index_copy`` of rows into a copy of ``x``: saves the rows; each gets its share of the gradient as a copy."""
    sizes = (x.numel * x.itemsize, rows.numel * rows.itemsize)
    wanted = (x.needs, rows.needs)

    def backward(gradient: Buffer) -> list[Buffer | None]:
        return [run.ledger.new(size) if needs else None for size, needs in zip(sizes, wanted, strict=True)]

    return run.record(
        run.tensor(x.numel, x.itemsize), [x.maker, rows.maker], backward, [rows.buffer] if rows.needs else []
    )


def look_up(run: Shadow, table: Weight, rows: int, *, leaf: bool) -> Tensor:
    """``F.embedding``: saves the ids alone; the gradient of the table is as large as the table.

    As a ``leaf`` the words of a frozen table ask for a gradient nevertheless: transformers'
    activation_checkpointing_enable sees to that (enable_input_require_grads).
    """
    result = run.tensor(rows * table.shape[1], run.weight)
    size = table.numel * run.weight
    if table.trains:
        return run.record(result, [table], lambda gradient: [run.ledger.new(size)])
    if leaf:
        result.maker = Function((), lambda gradient: (), [result.buffer])
    return result


def answer_loss(run: Shadow, logits: Tensor) -> Function | None:
    """Cross entropy of float32 logits: saves their log softmax; its gradient, then theirs, are as large."""
    wide = cast(run, logits, FULL)
    size = wide.numel * FULL
    soft = run.ledger.new(size)

    def backward(gradient: Buffer) -> Sequence[Buffer]:
        of_soft = run.ledger.new(size)
        result = run.ledger.new(size)
        del of_soft
        return [result]

    scalar = Tensor(1, FULL, run.ledger.new(FULL))
    return run.record(scalar, [wide.maker], backward, [soft]).maker
