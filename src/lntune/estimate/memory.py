"""The peak memory of one GPU in a training step, predicted from the models' sizes alone.

    account = predict_memory(Setup(llm=LLMS["7B"], vision=VISIONS["open_clip"], method="layernorm"))
    account.peak, account.parts, account.moment

The step is run dry, with sizes in place of numbers: operation by operation as the code runs it, every tensor held as
long as PyTorch would hold it (docs/memory.md). Nothing is fitted. Pure Python: some milliseconds a prediction.

The dry step follows :class:`lntune.model.multimodal.MultimodalModel` and transformers' classes line by line, with
gradient checkpointing as torch.utils.checkpoint does it without reentry: a block's input is kept, and all else is made
again when the block's gradients are computed, up to the last tensor that they need.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Literal, TypeVar

from pydantic import Field

from lntune.config import Frozen
from lntune.config.llm_family import Family
from lntune.config.llm_shape import LlmShape
from lntune.config.training import ConnectorKind, EngineName, LoraSettings, Precision
from lntune.estimate.engine_memory import EngineMemory, engine_memory
from lntune.estimate.shadow import Buffer, Function, GradientHook, Ledger, Shadow, Tensor, run_backward
from lntune.estimate.shapes import FULL, HALF, Block, Linear, Module, Skeleton, VisionShape, skeleton

WEIGHT_BYTES: Mapping[Precision, int] = {"fp32": FULL, "tf32": FULL, "bf16": FULL, "bf16-weights": HALF}
"""Of connector and LLM; the vision encoder's weights are float32 always."""

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
    connector: ConnectorKind = "linear"
    precision: Precision = "bf16-weights"
    checkpointing: bool = True
    engine: EngineName = "deepspeed"
    zero_stage: int = Field(default=2, ge=0, le=3)
    ranks: int = Field(default=1, ge=1)
    micro_batch: int = Field(default=1, ge=1)
    length: int = Field(default=512, ge=1)
    answer_tokens: int = Field(default=128, ge=1)
    accumulation: bool = False
    device: Literal["cuda", "cpu"] = "cuda"

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
    ledger = Ledger("before the step")
    weight = WEIGHT_BYTES[setup.precision]
    model = skeleton(setup.llm, setup.vision, setup.method, setup.lora, setup.connector)
    on_cpu = setup.device == "cpu"
    engine = engine_memory(ledger, model, weight, setup.stage, setup.ranks, gloo=on_cpu)
    workspace = ledger.new(0 if on_cpu else CUBLAS_WORKSPACE, "cuBLAS workspace")
    run = Shadow(
        ledger=ledger,
        weight=weight,
        autocast=setup.precision == "bf16",
        keeps_casts=setup.stage != 3,
        device=setup.device,
    )
    step = Step(run, model, setup, engine)
    for last in (False, True) if setup.accumulation else (True,):
        step.backward(step.forward())
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


def see(run: Shadow, shape: VisionShape, images: int) -> Tensor:
    """The vision encoder's pass, float32 and without gradients; its features."""
    ledger = run.ledger
    ledger.moment, ledger.part = "the vision encoder's pass", VISION
    rows, width = images * (shape.tokens + 1), shape.width
    pixels = ledger.new(images * 3 * shape.image**2 * FULL)
    residual = ledger.new(rows * width * FULL)
    del pixels
    # In a block: the residual, the norm's output, and the widest of what follows (queries, keys, values and their
    # mixture, or the MLP's inner numbers before and after their activation).
    inside = max(4 * width + width, 2 * shape.intermediate) + 2 * width
    ledger.touch(rows * inside * FULL)
    del residual
    return run.tensor(images * shape.tokens * width, FULL)


def block_forward(run: Shadow, block: Block, x: Tensor, rows: int, llm: LlmShape, answers: int | None = None) -> Tensor:
    """LlamaDecoderLayer.forward, and what a family's has besides.

    With ``answers`` it is the last block in training, of which so many rows are read (last_block_at_answers).
    """
    attention, mlp, family, itemsize = block.self_attn, block.mlp, llm.family, x.itemsize
    before_attention, before_mlp = family.paper_norms(block)
    normed = run.norm(x, before_attention.weight, rows, centred=family.centred)
    q = _read(run, normed, attention.q_proj, rows, answers)
    k, v = (run.linear(normed, layer, rows) for layer in (attention.k_proj, attention.v_proj))
    if family.head_norms:
        of_queries, of_keys = (getattr(attention, norm).weight for norm in family.head_norms)
        q = run.norm(q, of_queries, rows * llm.heads, centred=family.centred)
        k = run.norm(k, of_keys, rows * llm.kv_heads, centred=family.centred)
    q, k = run.rotate(q, itemsize), run.rotate(k, itemsize)
    mixed = _read(run, run.attention(q, k, v, rows, llm.heads), attention.o_proj, rows, answers)
    del q, k, v, normed
    x = run.add(x, _added(run, block, family.attention_norm, mixed, rows, family))
    del mixed
    normed = run.norm(x, before_mlp.weight, rows, centred=family.centred)
    read = rows if answers is None else answers
    if answers is not None:
        normed = run.select(normed, read * llm.hidden)
    gate = run.silu(run.linear(normed, mlp.gate_proj, read))
    product = run.multiply(gate, run.linear(normed, mlp.up_proj, read))
    del gate
    down = run.linear(product, mlp.down_proj, read)
    if answers is not None:
        down = run.spread(down, rows * llm.hidden)
    del product, normed
    return run.add(x, _added(run, block, family.mlp_norm, down, rows, family))


def _read(run: Shadow, x: Tensor, layer: Linear, rows: int, answers: int | None) -> Tensor:
    """A product, of ``answers`` of the rows alone if there is a number."""
    if answers is None:
        return run.linear(x, layer, rows)
    return run.spread(run.linear(run.select(x, answers * layer.inputs), layer, answers), rows * layer.outputs)


def _added(run: Shadow, block: Block, norm: str | None, x: Tensor, rows: int, family: Family) -> Tensor:
    """What is added to the residual stream: normed, in some families."""
    return x if norm is None else run.norm(x, getattr(block, norm).weight, rows, centred=family.centred)


def checkpointed(
    run: Shadow, block: Block, x: Tensor, rows: int, llm: LlmShape, answers: int | None, hook: GradientHook
) -> Tensor:
    """A block of which the input alone is kept."""
    numel, itemsize, kept, needs = x.numel, x.itemsize, x.buffer, x.needs
    run.recording = False
    result = block_forward(run, block, Tensor(numel, itemsize, kept), rows, llm, answers)
    run.recording = True
    if not (needs or block.trains):
        return result

    def backward(gradient: Buffer) -> Sequence[Buffer | None]:
        towards_input: list[Buffer] = []

        def arrive(gradient: Buffer) -> Sequence[Buffer]:
            towards_input.append(gradient)
            return ()

        run.ledger.part = RECOMPUTED
        cached, run.cast_weights = run.cast_weights, {}
        source = Function((), arrive) if needs else None
        inner = block_forward(run, block, Tensor(numel, itemsize, kept, source), rows, llm, answers).maker
        run.cast_weights = cached
        run.ledger.part = BACKWARD
        assert inner is not None
        run_backward(inner, gradient, hook)
        return towards_input or [None]

    result.maker = Function([x.maker], backward, [kept])
    return result


@dataclass
class Step:
    """A dry step of one micro-batch: ``setup.micro_batch`` samples of ``setup.length`` positions, an image in each."""

    run: Shadow
    model: Skeleton
    setup: Setup
    engine: EngineMemory

    @property
    def rows(self) -> int:
        """Positions of all samples."""
        return self.setup.micro_batch * self.setup.length

    def embedded(self, features: Tensor) -> Tensor:
        """MultimodalModel.embed: words, and the projected features in the image's places."""
        run, llm = self.run, self.setup.llm
        run.ledger.moment, run.ledger.part = "the forward pass", ACTIVATIONS
        table = self._enter(self.model.llm.model.embed_tokens)
        words = run.look_up(table.weight, self.rows, leaf=self.setup.checkpointing, scaled=llm.family.scaled)
        connector = self._enter(self.model.connector)
        first, *later = connector.layers
        image_rows = features.numel // first.inputs
        if not run.autocast:
            features = run.cast(features, run.weight)
        projected = run.linear(features, first, image_rows)
        for layer in later:
            projected = run.linear(run.pointwise(projected, [projected.buffer]), layer, image_rows)
        projected = run.cast(projected, words.itemsize)
        for module in (table, connector):
            self.engine.leave(module, self._distance(llm.parameters))
        return run.insert(words, projected)

    def forward(self) -> Function:
        """Loss of a micro-batch; returns its function."""
        run, setup, head = self.run, self.setup, self.model.llm.lm_head
        family = setup.llm.family
        features = see(run, setup.vision, setup.micro_batch)
        embedded = x = self.embedded(features)
        run.ledger.part = ACTIVATIONS
        rotation = run.ledger.new(2 * setup.length * setup.llm.head_dim * x.itemsize)  # cosine and sine
        layers = self.model.llm.model.layers
        size, answers = layers[0].numel, setup.micro_batch * setup.answer_tokens
        for place, block in enumerate(layers, start=1):
            run.ledger.moment = f"the forward pass of block {place}"
            x = self._block(self._enter(block), x, place, answers if place == len(layers) else None)
            self.engine.leave(block, self._distance((len(layers) - place) * size + head.numel))
        run.ledger.moment = "the loss"
        last = run.norm(x, self.model.llm.model.norm.weight, self.rows, centred=family.centred)
        del x
        chosen = run.mark(run.select(last, answers * setup.llm.hidden), self._leaver(head))
        run.ledger.part = LOGITS
        logits = run.cast(run.linear(chosen, self._enter(head), answers), FULL)
        loss = run.answer_loss(logits)
        del embedded, rotation, features
        assert loss is not None, "nothing trains"
        return loss

    def backward(self, loss: Function) -> None:
        """All gradients, each handed to the engine."""
        self.run.cast_weights.clear()  # autocast has ended
        self.run.ledger.moment, self.run.ledger.part = "the backward pass", BACKWARD
        run_backward(loss, self.run.ledger.new(FULL), self.engine.gradient)

    def _block(self, block: Block, x: Tensor, place: int, answers: int | None) -> Tensor:
        """A block's forward pass, between marks at which the backward pass enters and leaves it."""

        def enter() -> None:
            self.run.ledger.moment = f"the backward pass of block {place}"
            self.engine.use(block, backward=True)

        x = self.run.mark(x, self._leaver(block))
        if self.setup.checkpointing:
            x = checkpointed(self.run, block, x, self.rows, self.setup.llm, answers, self.engine.gradient)
        else:
            x = block_forward(self.run, block, x, self.rows, self.setup.llm, answers)
        return self.run.mark(x, enter)

    def _enter(self, module: AnyModule) -> AnyModule:
        self.engine.use(module, backward=False)
        return module

    def _leaver(self, module: Module) -> Callable[[], None]:
        return lambda: self.engine.leave(module, inf)

    def _distance(self, after: int) -> int:
        """Numbers that are used before the backward pass comes back over ``after`` of them, twice if it recomputes."""
        return after * (3 if self.setup.checkpointing else 2)
