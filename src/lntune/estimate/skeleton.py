"""The multi-modal model as weights without numbers: which there are, how large, and which train under a method.

It has the attributes that the tuning methods use (:mod:`lntune.model.tuning`), so a method marks what trains here by
its own code, and one that is added is known here too.
"""

from collections.abc import Iterator
from math import prod

from lntune.config.training import LoraSettings
from lntune.errors import UserError
from lntune.estimate.shapes import LlmShape, VisionShape
from lntune.model.tuning import METHODS


class Weight:
    """A parameter: its shape, how many numbers it holds, and whether it trains."""

    def __init__(self, shape: tuple[int, ...], *, trains: bool = False) -> None:
        self.shape, self.numel, self.trains = shape, prod(shape), trains


class Module:
    """Named weights and modules, to be asked as a torch module is."""

    def requires_grad_(self, flag: bool = True) -> "Module":
        """Mark all weights below."""
        for weight in self.weights():
            weight.trains = flag
        return self

    def weights(self) -> Iterator[Weight]:
        """All weights below, in order."""
        for value in vars(self).values():
            if isinstance(value, Weight):
                yield value
            elif isinstance(value, Module):
                yield from value.weights()
            elif isinstance(value, list):
                for one in value:
                    yield from one.weights()

    @property
    def trains(self) -> bool:
        """Whether anything below does."""
        return any(weight.trains for weight in self.weights())

    @property
    def numel(self) -> int:
        """All parameters below."""
        return sum(weight.numel for weight in self.weights())


class Linear(Module):
    """A matrix (outputs x inputs), perhaps with a bias, and LoRA's two matrices where it is wrapped."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.weight = Weight((outputs, inputs))
        if bias:
            self.bias = Weight((outputs,))
        self.dropout = 0.0
        self.lora_a: Weight | None = None
        self.lora_b: Weight | None = None

    def wrap(self, lora: LoraSettings) -> None:
        """Add LoRA, which trains."""
        self.dropout = lora.dropout
        self.lora_a = Weight((lora.rank, self.inputs), trains=True)
        self.lora_b = Weight((self.outputs, lora.rank), trains=True)


class Table(Module):
    """Word embeddings, or a norm's weight: one weight."""

    def __init__(self, *shape: int) -> None:
        self.weight = Weight(shape)


class Attention(Module):
    """The four projections."""

    def __init__(self, shape: LlmShape) -> None:
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj, self.k_proj = Linear(shape.hidden, queries), Linear(shape.hidden, keys)
        self.v_proj, self.o_proj = Linear(shape.hidden, keys), Linear(queries, shape.hidden)


class Mlp(Module):
    """Gate, up and down projections."""

    def __init__(self, shape: LlmShape) -> None:
        self.gate_proj = Linear(shape.hidden, shape.intermediate)
        self.up_proj = Linear(shape.hidden, shape.intermediate)
        self.down_proj = Linear(shape.intermediate, shape.hidden)


class Block(Module):
    """One decoder layer."""

    def __init__(self, shape: LlmShape) -> None:
        self.self_attn, self.mlp = Attention(shape), Mlp(shape)
        self.input_layernorm, self.post_attention_layernorm = Table(shape.hidden), Table(shape.hidden)

    def linears(self) -> list[Linear]:
        """The seven matrices that LoRA wraps."""
        found = (*vars(self.self_attn).values(), *vars(self.mlp).values())
        return [value for value in found if isinstance(value, Linear)]


class Decoder(Module):
    """Embeddings, blocks and the final norm."""

    def __init__(self, shape: LlmShape) -> None:
        self.embed_tokens = Table(shape.vocabulary, shape.hidden)
        self.layers = [Block(shape) for _ in range(shape.layers)]
        self.norm = Table(shape.hidden)


class Llm(Module):
    """The decoder and its output head."""

    def __init__(self, shape: LlmShape) -> None:
        self.model = Decoder(shape)
        self.lm_head = Linear(shape.hidden, shape.vocabulary)

    def get_input_embeddings(self) -> Table:
        """The word embeddings."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> Linear:
        """The output head."""
        return self.lm_head


class Skeleton(Module):
    """Vision encoder (a number of frozen parameters), connector, LLM, marked by a method."""

    def __init__(self, llm: LlmShape, vision: VisionShape, method: str, lora: LoraSettings | None) -> None:
        if method not in METHODS:
            raise UserError(f"there is no tuning method '{method}': choose one of {', '.join(METHODS)}")
        self.vision = Table(vision.parameters)
        self.connector = Linear(vision.width, llm.hidden, bias=True)
        self.llm = Llm(llm)
        if method != "lora":
            METHODS[method](self, lora)  # type: ignore[arg-type]  # the same attributes, no numbers
            return
        if lora is None:
            raise UserError("methods.lora.lora: LoRA needs its rank, alpha and dropout; add them to the scale")
        for block in self.llm.model.layers:
            for linear in block.linears():
                linear.wrap(lora)
        for part in (self.connector, self.llm.get_input_embeddings(), self.llm.get_output_embeddings()):
            part.requires_grad_()  # as every method but the simplest does

    @property
    def trained(self) -> list[Weight]:
        """What trains, in the order of the model's parameters."""
        return [weight for weight in self.weights() if weight.trains]

    @property
    def trainable(self) -> int:
        """How many parameters train."""
        return sum(weight.numel for weight in self.trained)
