"""The peak memory of one GPU in a training step, predicted from the models' sizes alone.

    account = predict_memory(Setup(llm=LLMS["7B"], vision=VISIONS["open_clip"], method="layernorm"))
    account.peak, account.parts, account.moment

The step is run dry, with sizes in place of numbers: operation by operation as the code runs it, every tensor held as
long as PyTorch would hold it (docs/memory.md). Nothing is fitted. Pure Python: some milliseconds a prediction.

The dry step follows :class:`lntune.model.multimodal.MultimodalModel` and transformers' LlamaModel line by line, with
gradient checkpointing as torch.utils.checkpoint does it without reentry: a block's input is kept, and all else is made
again when the block's gradients are computed, up to the last tensor that they need.

The memory that asking a tuned model takes, unlike training's, has not been checked against a measurement.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Literal, TypeVar

from pydantic import Field

from lntune.config import Frozen
from lntune.config.training import EngineName, LoraSettings, Precision
from lntune.estimate import shadow_ops
from lntune.estimate.engine_memory import EngineMemory, engine_memory
from lntune.estimate.shadow import Buffer, Function, GradientHook, Ledger, Shadow, Source, Tensor, run_backward
from lntune.estimate.shapes import Block, LlmShape, Module, Skeleton, VisionShape

Device = Literal["cuda", "cpu"]

WEIGHT_BYTES: Mapping[Precision, int] = {"fp32": 4, "tf32": 4, "bf16": 4, "bf16-weights": 2}

CUBLAS_WORKSPACE = 2 * 8 * 4096 * 1024
"""CUBLAS_WORKSPACE_CONFIG=:4096:8, which model/device.py asks for, in the forward and in the backward thread."""


class Setup(Frozen):
    """A training step whose memory is asked for.

    ``length`` counts all positions of a sample, image tokens included, ``answer_tokens`` those of them that bear a
    loss. ``accumulation`` says that an optimiser step has several micro-batches, so that gradients are held while the
    next are made.
    """

    llm: LlmShape
    vision: VisionShape
    method: str
    lora: LoraSettings | None = None
    precision: Precision = "bf16-weights"
    checkpointing: bool = True
    engine: EngineName = "deepspeed"
    zero_stage: int = Field(default=2, ge=0, le=3)
    ranks: int = Field(default=1, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    length: int = Field(default=512, ge=1)
    answer_tokens: int = Field(default=128, ge=1)
    accumulation: bool = False
    device: Device = "cuda"

    @property
    def stage(self) -> int | None:
        """The ZeRO stage that is used, None for the plain engine: bfloat16 weights have masters from stage 1 on."""
        if self.engine == "plain":
            return None
        return max(self.zero_stage, 1) if self.precision == "bf16-weights" else self.zero_stage


class MemoryAccount(Frozen):
    """The predicted peak in bytes, at which moment of the step it is reached, and what makes it up then."""

    peak: int
    moment: str
    parts: dict[str, int]
    trainable: int
    parameters: int


@lru_cache(maxsize=4096)
def predict_memory(setup: Setup) -> MemoryAccount:
    """Run one step dry and return the account at its peak."""
    ledger = Ledger()
    ledger.moment = "before the step"
    weight = WEIGHT_BYTES[setup.precision]
    model = Skeleton(setup.llm, setup.vision, setup.method, setup.lora)
    stage = setup.stage
    engine = engine_memory(ledger, model, weight, stage, setup.ranks, gloo=setup.device == "cpu")
    workspace = ledger.new(CUBLAS_WORKSPACE if setup.device == "cuda" else 0, "cuBLAS workspace")
    run = Shadow(ledger, weight, autocast=setup.precision == "bf16", device=setup.device, keeps_casts=stage != 3)
    step = Step(run, model, setup.llm, setup.checkpointing, engine)
    batch = Batch(setup.micro_batch, setup.length, setup.micro_batch * setup.answer_tokens, setup.micro_batch)
    for last in (False, True) if setup.accumulation else (True,):
        loss = step.forward(batch, setup.vision)
        step.backward(loss)
        del loss
        engine.end_of_backward(last)
    engine.optimiser_step()
    del workspace
    return MemoryAccount(
        peak=ledger.peak,
        moment=ledger.peak_moment,
        parts={part: size for part, size in ledger.peak_parts.items() if size},
        trainable=model.trainable,
        parameters=model.numel,
    )


# --- the dry step ---------------------------------------------------------------------------------------------------

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


# --- asking a tuned model -------------------------------------------------------------------------------------------

PROMPT_TOKENS = 120
"""Tokens of text before an answer begins (assumed)."""


def prediction_bytes(llm: LlmShape, vision: VisionShape, new_tokens: int, batch: int) -> int:
    """Memory of asking: float32 weights, and keys and values of a batch."""
    tokens = vision.tokens + PROMPT_TOKENS + new_tokens
    cache = 2 * llm.layers * llm.kv_heads * llm.head_dim * 4 * tokens * batch
    return 4 * (llm.parameters + vision.parameters) + cache


def similarity_bytes(llm: LlmShape, vision: VisionShape, batch: int) -> int:
    """Memory of comparing layers: float32 weights, a batch's states of all layers, one prompt's twice in float64."""
    state = llm.layers * llm.hidden * (vision.tokens + PROMPT_TOKENS)
    return 4 * (llm.parameters + vision.parameters) + 4 * state * batch + 2 * 8 * state
