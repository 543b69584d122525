"""What trains: the paper's tuning methods (sec. 3, Tables 2 and 4), one small function each.

A method gets a model of which nothing trains and marks what does; none reaches into the vision encoder. To add one,
write its function and enter it in METHODS under the name that a config uses.

    method                       connector  embeddings, head  in the LLM
    finetune                     yes        yes               everything
    lora                         yes        yes               LoRA on all linear layers but the head
    attn-qv                      yes        yes               query and value projections
    attn-mlp                     yes        yes               the MLPs
    layernorm                    yes        yes               input and post-attention norms
    layernorm-simp               no         no                input and post-attention norms
    connector-only               yes        no                nothing
    layernorm-without-connector  no         yes               input and post-attention norms
    layernorm-all                yes        yes               all norms: also the final one, and those of queries, keys

Which norms of a block are "input" and "post-attention", each family declares (:mod:`lntune.config.llm_family`).
All 12 percentages of Table 2 follow from these (tests/unit/model/test_tuning.py), LoRA's at rank 64: the paper's text
says 32. The final norm stays frozen: the paper tunes the norms "in attention blocks". The printed digits allow either.

Imports nothing heavy, so that a config can be checked against METHODS without PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from lntune.config.llm_family import family_of
from lntune.config.training import LoraSettings
from lntune.errors import UserError
from lntune.model.weights import check

if TYPE_CHECKING:
    from torch import Tensor, nn


class Multimodal(Protocol):
    """The three parts that tuning needs to tell apart; ``llm`` is of a declared family."""

    @property
    def vision(self) -> nn.Module: ...
    @property
    def connector(self) -> nn.Module: ...
    @property
    def llm(self) -> Any: ...


@dataclass(frozen=True)
class TrainableReport:
    """Numbers of parameters: all that train, and all there are, LoRA's too but not CLIP's projection, as in Table 2."""

    trainable: int
    total: int

    @property
    def percent(self) -> float:
        """What trains, of all parameters."""
        return 100 * self.trainable / self.total


Method = Callable[[Multimodal, LoraSettings | None], None]


def finetune(model: Multimodal, lora: LoraSettings | None) -> None:
    """The whole LLM, and the connector."""
    _train(model.llm, model.connector)


def lora_adapters(model: Multimodal, lora: LoraSettings | None) -> None:
    """LoRA on every linear layer of the LLM but the output head, in place; connector, embeddings and head as always."""
    from peft import LoraConfig, inject_adapter_in_model

    if lora is None:
        raise UserError("methods.lora.lora: LoRA needs its rank, alpha and dropout; add them to the scale")
    assert not any(_adapters(model.llm)), "this model has LoRA already"
    weight = model.llm.get_output_embeddings().weight
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",  # PEFT leaves the output head out of these
        bias="none",
    )
    # Without weights there is nothing to initialise, which at 13B saves seconds. Unlike get_peft_model, this
    # keeps the adapters in the LLM's own precision (autocast_adapter_dtype=False).
    inject_adapter_in_model(config, model.llm, low_cpu_mem_usage=weight.is_meta)
    _train(*_adapters(model.llm))
    _train_default(model)


def attn_qv(model: Multimodal, lora: LoraSettings | None) -> None:
    """Attn. QV Proj.: the query and value projections; connector, embeddings and head as always."""
    for layer in model.llm.model.layers:
        _train(*family_of(model.llm).projections(layer))
    _train_default(model)


def attn_mlp(model: Multimodal, lora: LoraSettings | None) -> None:
    """Attn. MLP: the MLP of every block; connector, embeddings and head as always."""
    for layer in model.llm.model.layers:
        _train(getattr(layer, family_of(model.llm).mlp))
    _train_default(model)


def layernorm(model: Multimodal, lora: LoraSettings | None) -> None:
    """LayerNorm: both norms of every block; connector, embeddings and head as always."""
    layernorm_simple(model, lora)
    _train_default(model)


def layernorm_simple(model: Multimodal, lora: LoraSettings | None) -> None:
    """LayerNorm-simp.: both norms of every block and nothing else (paper sec. 4.1)."""
    for layer in model.llm.model.layers:
        _train(*family_of(model.llm).paper_norms(layer))


def layernorm_all(model: Multimodal, lora: LoraSettings | None) -> None:
    """Every norm of the LLM; connector, embeddings and head as always. Not the paper's."""
    for layer in model.llm.model.layers:
        _train(*family_of(model.llm).norms(layer))
    _train(model.llm.model.norm)
    _train_default(model)


def connector_only(model: Multimodal, lora: LoraSettings | None) -> None:
    """The connector and nothing else: Table 4's "Connector", and the pretraining of stage one."""
    _train(model.connector)


def layernorm_only(model: Multimodal, lora: LoraSettings | None) -> None:
    """Table 4's "LayerNorm": the method LayerNorm with its connector frozen, so norms, embeddings and head.

    The paper does not say what trains besides the norms. Norms alone would be LayerNorm-simp., yet Table 4 prints other
    scores than Table 1 has for that (7B: MME 395.0/191.4 against 542.6/205.0); and Table 4's first row is Table 1's
    LayerNorm, of which this row takes the connector away.
    """
    layernorm_simple(model, lora)
    _train_vocabulary(model)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "finetune": finetune,
        "lora": lora_adapters,
        "attn-qv": attn_qv,
        "attn-mlp": attn_mlp,
        "layernorm": layernorm,
        "layernorm-simp": layernorm_simple,
        "connector-only": connector_only,
        "layernorm-without-connector": layernorm_only,
        "layernorm-all": layernorm_all,
    }
)


def apply_method(model: Multimodal, name: str, lora: LoraSettings | None, *, seed: int = 0) -> None:
    """Freeze the model, then let the method of that name mark what trains.

    ``seed`` decides LoRA's initial weights (A random, B zero), whatever was drawn before; the caller's random state
    stays as it was. Raises UserError for an unknown name.
    """
    import torch

    if name not in METHODS:
        raise UserError(f"there is no tuning method '{name}': choose one of {', '.join(METHODS)}")
    for part in (model.vision, model.connector, model.llm):
        part.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: new weights are drawn there, then moved
        METHODS[name](model, lora)


def trainable_report(model: Multimodal) -> TrainableReport:
    """Count what trains and all parameters (Table 2)."""
    trainable = sum(parameter.numel() for parameter in trainable_state(model).values())
    frozen_part = sum(parameter.numel() for parameter in model.vision.parameters())
    return TrainableReport(trainable, frozen_part + sum(parameter.numel() for _, parameter in _tunable(model)))


def printed_percent(percent: float) -> str:
    """A percentage as Table 2 prints it: two digits, and three where two would say zero."""
    return f"{percent:.2f}" if percent >= 0.01 else f"{percent:.3f}"


def trainable_state(model: Multimodal) -> dict[str, Tensor]:
    """The model's own tensors that train, not copies, under names that begin with ``connector.`` or ``llm.``."""
    return {name: parameter.detach() for name, parameter in _tunable(model) if parameter.requires_grad}


def load_trainable(model: Multimodal, path: Path) -> None:
    """Put a saved :func:`trainable_state` into a model to which the same method was applied, cast to its precision.

    Nothing is loaded unless every tensor fits: UserError names those that are missing, surplus or of another shape.
    """
    import torch
    from safetensors.torch import load_file

    own = trainable_state(model)
    check([path], own, "it must come from the same tuning method, LLM, vision encoder and LoRA rank")
    state = load_file(path)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _train(*parts: nn.Module) -> None:
    for part in parts:
        part.requires_grad_(True)


def _train_vocabulary(model: Multimodal) -> None:
    """Word embeddings and output head."""
    _train(model.llm.get_input_embeddings(), model.llm.get_output_embeddings())


def _train_default(model: Multimodal) -> None:
    """What the paper activates by default besides a method's own part (Figure 1)."""
    _train(model.connector)
    _train_vocabulary(model)


def _tunable(model: Multimodal) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter outside the vision encoder with its name, each once."""
    for part, module in (("connector", model.connector), ("llm", model.llm)):
        for name, parameter in module.named_parameters():
            yield f"{part}.{name}", parameter


def _adapters(llm: nn.Module) -> Iterator[nn.Module]:
    """LoRA's own modules: what PEFT holds as A and B in each linear layer that it wraps."""
    for module in llm.modules():
        for matrix in ("lora_A", "lora_B"):
            if hasattr(module, matrix):
                yield getattr(module, matrix)
