"""What an engine holds in addition to activations: weights, gradients, the optimiser's state, and DeepSpeed's buffers.

For plain PyTorch see training/engine.py. For DeepSpeed, whose config is written by training/deepspeed_engine.py, the
terms follow its runtime/zero/stage_1_and_2.py and stage3.py (0.19.8); names in comments are theirs. AdamW is torch's
fused one, which works in place.
"""

from collections.abc import Sequence
from itertools import accumulate

from lntune.estimate.shadow import Buffer, Ledger
from lntune.estimate.shapes import DOUBLE, FULL, Module, Skeleton, Weight

# DeepSpeed's own defaults (0.19.8), under its names in brackets: numbers, not bytes.
REDUCE_BUCKET, SMALLEST_BUCKET = 500_000_000, 1_000_000
"""In a bucket at most (reduce_bucket_size), which holds no more than train and no fewer than the second."""

ALLREDUCE_BUCKET = 500_000_000
"""Stage 0 reduces so many at a time (MEMORY_OPT_ALLREDUCE_SIZE)."""

PERSISTENT = 100_000
"""ZeRO-3 shards no parameter smaller than this (stage3_param_persistence_threshold)."""

REUSE_DISTANCE, PREFETCH, SUB_GROUP = 1_000_000_000, 50_000_000, 1_000_000_000
"""ZeRO-3 keeps what is used again within the first, fetches the second ahead, updates the third at a time."""

GRADIENTS, BUFFERS, STEP = "gradients", "DeepSpeed's buffers", "copies of the optimiser's step"
FETCHED, LOADED = "weights fetched from all ranks", "weights as they are loaded"


class EngineMemory:
    """What the dry step tells an engine; one that keeps all weights whole need not know where the pass is."""

    def use(self, module: Module, *, backward: bool) -> None:
        """A pass comes to a module."""

    def leave(self, module: Module, until_used_again: float) -> None:
        """A pass leaves a module, whose weights are used again after so many other numbers have been."""

    def gradient(self, weight: Weight, gradient: Buffer) -> None:
        """A weight's gradient of one micro-batch is finished."""
        raise NotImplementedError

    def end_of_backward(self, last: bool) -> None:
        """A micro-batch's backward pass is over; ``last`` of the optimiser's step or not."""
        raise NotImplementedError

    def optimiser_step(self) -> None:
        """Clip and update; the default is for clipping and a fused update that work in place."""


class PlainMemory(EngineMemory):
    """Plain PyTorch, and ZeRO stage 0: weights, gradients of their type, and AdamW's two moments, all whole."""

    def __init__(self, ledger: Ledger, model: Skeleton, weight: int, *, reduces: bool) -> None:
        self.ledger, self.model, self.weight, self.reduces = ledger, model, weight, reduces
        self.held = [
            *_frozen(ledger, model, weight, ranks=1),
            ledger.new(model.trainable * weight, "weights that train"),
            ledger.new(model.trainable * 2 * weight + FULL * len(model.trained), "AdamW's moments"),
        ]
        self.gradients: dict[Weight, Buffer] = {}

    def gradient(self, weight: Weight, gradient: Buffer) -> None:
        """Keep it; a later one is added to it in place."""
        if weight not in self.gradients:
            self.gradients[weight] = gradient.rename(GRADIENTS)

    def end_of_backward(self, last: bool) -> None:
        """DeepSpeed joins the gradients in buckets to sum them over the ranks."""
        if last and self.reduces:
            self.ledger.moment = "the reduction of gradients"
            for numel in _full_buckets([one.numel for one in self.gradients]):
                self.ledger.touch(numel * self.weight, part=BUFFERS)


def _full_buckets(numels: Sequence[int]) -> list[int]:
    """Sizes of the copies that stage 0 makes; a bucket of one tensor is not copied."""
    found, size, number = [], 0, 0
    for numel in numels:
        size, number = size + numel, number + 1
        if size > ALLREDUCE_BUCKET:
            found.append(size if number > 1 else 0)
            size = number = 0
    return [*found, size if number > 1 else 0]


def _frozen(ledger: Ledger, model: Skeleton, weight: int, ranks: int) -> list[Buffer]:
    """The frozen weights of connector and LLM, and the vision encoder's, whole and float32 on every rank."""
    vision = model.vision.numel
    frozen = model.numel - vision - model.trainable
    return [ledger.new(frozen * weight // ranks, "frozen weights"), ledger.new(vision * FULL, "vision encoder")]


class _Sharded(EngineMemory):
    """What ZeRO's stages 1 to 3 have in common: the groups of parameters, and a bucket that gradients are put into."""

    def __init__(self, ledger: Ledger, model: Skeleton, weight: int, ranks: int) -> None:
        self.ledger, self.model, self.weight, self.ranks = ledger, model, weight, ranks
        matrices = [one for one in model.trained if len(one.shape) >= 2]
        vectors = [one for one in model.trained if len(one.shape) < 2]
        self.groups = [group for group in (matrices, vectors) if group]
        self.total = model.trainable
        self.parts = [-(-sum(one.numel for one in group) // ranks) for group in self.groups]
        """Numbers of each group that one rank updates."""
        self.share = sum(self.parts)
        self.bucket_numel = max(min(REDUCE_BUCKET, self.total), SMALLEST_BUCKET)
        self.moments = ledger.new(self.share * 2 * FULL + FULL * len(self.groups), "AdamW's moments")
        self.filled = self.filled_numel = 0  # weights in the bucket, and their numbers
        self.large: Buffer | None = None

    def into_bucket(self, weight: Weight, gradient: Buffer) -> None:
        """Copy a gradient into the bucket, which is reduced first if it is full; one that is larger stays itself."""
        if self.filled and self.filled_numel + weight.numel > self.bucket_numel:
            self.reduce()
        if weight.numel > self.bucket_numel:
            self.large = gradient.rename(GRADIENTS)
        self.filled, self.filled_numel = self.filled + 1, self.filled_numel + weight.numel

    def reduce(self) -> None:
        """Sum the bucket over the ranks, and empty it."""
        self.filled, self.filled_numel, self.large = 0, 0, None

    def step(self, largest: int, partitions: Sequence[int]) -> None:
        """The gradients' norm in float64, one gradient after the other; then each group's copy, flat and in float32.

        A group of one tensor is not copied, and float32 is not cast.
        """
        self.ledger.moment = "the optimiser's step"
        self.ledger.touch(largest * DOUBLE, part=STEP)
        for group, numel in zip(self.groups, partitions, strict=True):
            flat = numel * self.weight if len(group) > 1 else 0
            self.ledger.touch(flat, 0 if self.weight == FULL else numel * FULL, part=STEP)


class ZeroMemory(_Sharded):
    """ZeRO stages 1 and 2: float32 masters and AdamW's moments are shared out, in stage 2 the gradients as well."""

    def __init__(self, ledger: Ledger, model: Skeleton, weight: int, ranks: int, stage: int) -> None:
        super().__init__(ledger, model, weight, ranks)
        self.stage = stage
        loaded = model.numel - model.vision.numel + self.total  # those that train are flattened beside themselves
        ledger.touch(loaded * weight, part=LOADED)
        self.held = [
            *_frozen(ledger, model, weight, ranks=1),
            ledger.new(self.total * weight, "weights that train"),  # bit16_groups_flat
            ledger.new(self.share * FULL, "master weights"),  # single_partition_of_fp32_groups: with fp32 a copy too
        ]
        self.in_partition = max(self._numbers_of(rank) for rank in range(ranks))
        self.bucket: Buffer | None = None
        self.whole: dict[Weight, Buffer] = {}
        self.new: Buffer | None = None  # grads_in_partition
        self.averaged: Buffer | None = None

    def _numbers_of(self, rank: int) -> int:
        """Numbers of the parameters of which a rank updates at least a part (params_in_partition)."""
        return sum(
            one.numel
            for group, part in zip(self.groups, self.parts, strict=True)
            for one, end in zip(group, accumulate(one.numel for one in group), strict=True)
            if end - one.numel < (rank + 1) * part and end > rank * part
        )

    def gradient(self, weight: Weight, gradient: Buffer) -> None:
        """Stage 2 puts it into the bucket at once, stage 1 keeps it until the step's last micro-batch."""
        if self.bucket is None:  # setup_buckets
            self.bucket = self.ledger.new(self.bucket_numel * self.weight, BUFFERS)
        if self.stage == 2:
            self.into_bucket(weight, gradient)
        elif weight not in self.whole:
            self.whole[weight] = gradient.rename(GRADIENTS)

    def reduce(self) -> None:
        """allreduce_and_scatter joins slices of several ranks; copy_grads_in_partition keeps this rank's."""
        if self.ranks > 1:
            self.ledger.touch(self.filled_numel * self.weight, part=BUFFERS)
        if self.new is None:
            self.new = self.ledger.new(self.in_partition * self.weight, GRADIENTS)
        super().reduce()

    def end_of_backward(self, last: bool) -> None:
        """independent_gradient_partition_epilogue: what is new is added to what there was."""
        self.ledger.moment = "the reduction of gradients"
        if self.stage == 1:
            if not last:
                return
            for weight in list(self.whole):
                self.into_bucket(weight, self.whole.pop(weight))
        self.reduce()
        if self.averaged is None:
            self.averaged = self.new
        self.new = self.bucket = None

    def optimiser_step(self) -> None:
        """On this rank's gradients."""
        largest = max(
            min(max(one.numel for one in group), part) for group, part in zip(self.groups, self.parts, strict=True)
        )
        self.step(largest, self.parts)


class Zero3Memory(_Sharded):
    """ZeRO stage 3: weights are shared out too, and fetched when they are used."""

    def __init__(self, ledger: Ledger, model: Skeleton, weight: int, ranks: int, *, gloo: bool) -> None:
        super().__init__(ledger, model, weight, ranks)
        self.copies = 2 if gloo and ranks > 1 else 1
        ledger.touch((model.numel - model.vision.numel) * weight, part=LOADED)  # whole until they are shared out
        llm = model.llm
        self.order: list[Module] = [llm.model.embed_tokens, model.connector, *llm.model.layers, llm.lm_head]
        small = sum(one.numel for module in self.order for one in module.weights if one.numel < PERSISTENT)
        self.held = [
            *_frozen(ledger, model, weight, ranks),
            ledger.new(self.share * weight, "weights that train"),  # lp_param_buffer
            ledger.new(small * weight, "weights that train"),
            # fp32_partitioned_groups_flat: a copy even if they are float32, as a device never equals its name
            ledger.new(self.share * FULL, "master weights"),
            ledger.new(self.bucket_numel * weight, BUFFERS),
            ledger.new(self.share * weight, GRADIENTS),  # grad_partitions_flat_buffer
        ]
        self.large_of = {
            module: sum(one.numel for one in module.weights if one.numel >= PERSISTENT) for module in self.order
        }
        self.fetched: dict[Module, Buffer] = {}
        self.ahead: Buffer | None = None

    def use(self, module: Module, *, backward: bool) -> None:
        """Fetch a module's weights, and ahead of their use some of those that come next."""
        self.ahead = None
        if module not in self.fetched:
            self.fetched[module] = self.ledger.new(self.large_of[module] * self.weight, FETCHED)
        place = self.order.index(module)
        coming = self.order[:place] if backward else self.order[place + 1 :]
        missing = sum(self.large_of[one] for one in coming if one not in self.fetched)
        self.ahead = self.ledger.new(min(PREFETCH, missing) * self.weight, FETCHED)

    def leave(self, module: Module, until_used_again: float) -> None:
        """Keep it if it is used again soon."""
        if until_used_again >= REUSE_DISTANCE:
            self.fetched.pop(module, None)

    gradient = _Sharded.into_bucket

    def reduce(self) -> None:
        """reduce_scatter_coalesced joins the bucket's gradients, which gloo copies once more; this rank's are kept."""
        if self.filled > 1:
            self.ledger.touch(*[self.filled_numel * self.weight] * self.copies, part=BUFFERS)
        super().reduce()

    def end_of_backward(self, last: bool) -> None:
        """Reduce what is left. The words' table has no input with a gradient, at which it would be released."""
        self.ledger.moment = "the reduction of gradients"
        self.fetched = {module: held for module, held in self.fetched.items() if module is self.order[0]}
        self.ahead = None
        self.reduce()

    def optimiser_step(self) -> None:
        """Weights are given back; then sub-group by sub-group."""
        self.fetched = {}
        largest = [max(one.numel for one in group) for group in self.groups]
        sub_groups = [SUB_GROUP + numel // self.ranks for numel in largest]
        self.step(-(-max(largest) // self.ranks), [*map(min, self.parts, sub_groups)])


def engine_memory(
    ledger: Ledger, model: Skeleton, weight: int, stage: int | None, ranks: int, *, gloo: bool
) -> EngineMemory:
    """The account of an engine: plain PyTorch (``stage`` None), or DeepSpeed at a ZeRO stage, between CPUs by gloo."""
    if stage is None or stage == 0:
        return PlainMemory(ledger, model, weight, reduces=stage is not None)
    if stage == 3:
        return Zero3Memory(ledger, model, weight, ranks, gloo=gloo)
    return ZeroMemory(ledger, model, weight, ranks, stage)
