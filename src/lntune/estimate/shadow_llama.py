"""One training step of the multi-modal model, dry: the vision encoder's pass, forward, loss, backward.

It follows :class:`lntune.model.multimodal.MultimodalModel` and transformers' LlamaModel line by line, with gradient
checkpointing as torch.utils.checkpoint does it without reentry: a block's input is kept, and all else is made again
when the block's gradients are computed, up to the last tensor that they need.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from lntune.estimate import shadow_ops
from lntune.estimate.engine_memory import EngineMemory
from lntune.estimate.shadow import Buffer, Function, GradientHook, Shadow, Source, Tensor, run_backward
from lntune.estimate.shapes import LlmShape, VisionShape
from lntune.estimate.skeleton import Block, Module, Skeleton

ACTIVATIONS, RECOMPUTED, BACKWARD = "activations kept", "recomputed block", "gradients that flow"
LOGITS, VISION = "logits and loss", "vision encoder's pass"

AnyModule = TypeVar("AnyModule", bound=Module)


@dataclass(frozen=True)
class Batch:
    """A micro-batch: samples of ``length`` positions each (image tokens included), answers in ``answers`` of them."""

    samples: int
    length: int
    answers: int
    images: int


def see(run: Shadow, shape: VisionShape, batch: Batch) -> Tensor:
    """The vision encoder's pass, float32 and without gradients; its features."""
    ledger = run.ledger
    ledger.moment, ledger.part = "the vision encoder's pass", VISION
    rows, width = batch.images * (shape.tokens + 1), shape.width
    pixels = ledger.new(batch.images * 3 * shape.image**2 * shadow_ops.FULL)
    residual = ledger.new(rows * width * shadow_ops.FULL)
    del pixels
    # In a block: the residual, the norm's output, and the widest of what follows (queries, keys, values and their
    # mixture, or the MLP's inner numbers before and after their activation).
    inside = max(4 * width + width, 2 * shape.intermediate) + 2 * width
    ledger.touch(rows * inside * shadow_ops.FULL)
    del residual
    return run.tensor(batch.images * shape.tokens * width, shadow_ops.FULL)


def block_forward(run: Shadow, block: Block, x: Tensor, rows: int, shape: LlmShape) -> Tensor:
    """LlamaDecoderLayer.forward."""
    attention, mlp, itemsize = block.self_attn, block.mlp, x.itemsize
    normed = shadow_ops.norm(run, x, block.input_layernorm.weight, rows)
    q = shadow_ops.linear(run, normed, attention.q_proj, rows)
    k = shadow_ops.linear(run, normed, attention.k_proj, rows)
    v = shadow_ops.linear(run, normed, attention.v_proj, rows)
    q, k = shadow_ops.rotate(run, q, itemsize), shadow_ops.rotate(run, k, itemsize)
    mixed = shadow_ops.attention(run, q, k, v, rows, shape.heads)
    mixed = shadow_ops.linear(run, mixed, attention.o_proj, rows)
    del q, k, v, normed
    x = shadow_ops.add(run, x, mixed)
    del mixed
    normed = shadow_ops.norm(run, x, block.post_attention_layernorm.weight, rows)
    gate = shadow_ops.silu(run, shadow_ops.linear(run, normed, mlp.gate_proj, rows))
    product = shadow_ops.multiply(run, gate, shadow_ops.linear(run, normed, mlp.up_proj, rows))
    del gate
    down = shadow_ops.linear(run, product, mlp.down_proj, rows)
    del product, normed
    return shadow_ops.add(run, x, down)


def checkpointed(run: Shadow, block: Block, x: Tensor, rows: int, shape: LlmShape, hook: GradientHook) -> Tensor:
    """A block of which the input alone is kept."""
    trains = block.trains
    run.recording = False
    result = block_forward(run, block, Tensor(x.numel, x.itemsize, x.buffer), rows, shape)
    run.recording = True
    if not (x.needs or trains):
        return result
    numel, itemsize, kept = x.numel, x.itemsize, x.buffer
    needs = x.needs

    def backward(gradient: Buffer) -> list[Buffer | None]:
        run.ledger.part = RECOMPUTED
        cached, run.cast_weights = run.cast_weights, {}
        source = Source() if needs else None
        inner = block_forward(run, block, Tensor(numel, itemsize, kept, source), rows, shape).maker
        run.cast_weights = cached
        run.ledger.part = BACKWARD
        assert inner is not None
        run_backward(inner, gradient, hook)
        return [source.gradient if source is not None else None]

    maker = x.maker if needs else None
    result.maker = Function([maker], backward, [x.buffer])
    return result


@dataclass
class Step:
    """A dry step of one micro-batch."""

    run: Shadow
    model: Skeleton
    shape: LlmShape
    checkpointing: bool
    engine: EngineMemory

    def embedded(self, batch: Batch, features: Tensor) -> Tensor:
        """MultimodalModel.embed: words, and the projected features in the image's places."""
        run, rows = self.run, batch.samples * batch.length
        run.ledger.moment, run.ledger.part = "the forward pass", ACTIVATIONS
        table = self._enter(self.model.llm.model.embed_tokens)
        words = shadow_ops.look_up(run, table.weight, rows, leaf=self.checkpointing)
        connector = self._enter(self.model.connector)
        image_rows = features.numel // connector.inputs
        if not run.autocast:
            features = shadow_ops.cast(run, features, run.weight)
        projected = shadow_ops.cast(run, shadow_ops.linear(run, features, connector, image_rows), words.itemsize)
        for module in (table, connector):
            self.engine.leave(module, self._distance(self.shape.parameters))
        return shadow_ops.insert(run, words, projected)

    def forward(self, batch: Batch, vision: VisionShape) -> Function:
        """Loss of a micro-batch; returns its function."""
        run, rows, head = self.run, batch.samples * batch.length, self.model.llm.lm_head
        features = see(run, vision, batch)
        embedded = x = self.embedded(batch, features)
        run.ledger.part = ACTIVATIONS
        rotation = run.ledger.new(2 * batch.length * self.shape.head_dim * x.itemsize)  # cosine and sine
        layers = self.model.llm.model.layers
        size = layers[0].numel
        for place, block in enumerate(layers, start=1):
            run.ledger.moment = f"the forward pass of block {place}"
            x = self._block(self._enter(block), x, rows, place)
            self.engine.leave(block, self._distance((len(layers) - place) * size + head.numel))
        run.ledger.moment = "the loss"
        last = shadow_ops.norm(run, x, self.model.llm.model.norm.weight, rows)
        del x
        chosen = shadow_ops.mark(
            run, shadow_ops.select(run, last, batch.answers * self.shape.hidden), self._leaver(head)
        )
        run.ledger.part = LOGITS
        logits = shadow_ops.linear(run, chosen, self._enter(head), batch.answers)
        logits = shadow_ops.cast(run, logits, shadow_ops.FULL)
        loss = shadow_ops.answer_loss(run, logits)
        del embedded, rotation, features
        assert loss is not None, "nothing trains"
        return loss

    def backward(self, loss: Function) -> None:
        """All gradients, each handed to the engine."""
        self.run.cast_weights.clear()  # autocast has ended
        self.run.ledger.moment, self.run.ledger.part = "the backward pass", BACKWARD
        run_backward(loss, self.run.ledger.new(shadow_ops.FULL), self.engine.gradient)

    def _block(self, block: Block, x: Tensor, rows: int, place: int) -> Tensor:
        """A block's forward pass, between marks at which the backward pass enters and leaves it."""

        def enter() -> None:
            self.run.ledger.moment = f"the backward pass of block {place}"
            self.engine.use(block, backward=True)

        x = shadow_ops.mark(self.run, x, self._leaver(block))
        if self.checkpointing:
            x = checkpointed(self.run, block, x, rows, self.shape, self.engine.gradient)
        else:
            x = block_forward(self.run, block, x, rows, self.shape)
        return shadow_ops.mark(self.run, x, enter)

    def _enter(self, module: AnyModule) -> AnyModule:
        self.engine.use(module, backward=False)
        return module

    def _leaver(self, module: Module) -> Callable[[], None]:
        return lambda: self.engine.leave(module, inf)

    def _distance(self, after: int) -> int:
        """Numbers that are used before the backward pass comes back over ``after`` of them, twice if it recomputes."""
        return after * (3 if self.checkpointing else 2)
