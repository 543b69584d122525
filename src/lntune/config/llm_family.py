"""The families of LLMs that can be tuned: how a decoder block of each is laid out, under transformers' own names.

A family is known by ``model_type`` of an LLM's config.json, and by nothing else. To add one, declare it here: tuning
methods, memory, norm gradients and all else ask the declaration. A decoder is ``llm.model`` with ``embed_tokens``,
``layers`` and ``norm``, and its head ``llm.lm_head``, in every family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from lntune.errors import UserError

ModelType = Literal["llama", "mistral", "qwen2", "qwen3", "gemma3_text"]


@dataclass(frozen=True)
class Family:
    """One family's block; attributes are named as in transformers' class ``architecture``.

    ``input`` and ``post`` are the norms through which attention and MLP read the residual stream, which the paper
    tunes; ``attention_norm`` and ``mlp_norm`` those of what attention and MLP add to it, where there are any;
    ``head_norms`` those of each head's queries and keys. ``centred``: a norm's weight is what is added to one.
    ``biased`` projections have a bias. ``tied`` and ``head_dim`` are what a config.json means that does not say.
    ``scaled`` word embeddings are multiplied by the root of their width; an image's are not. ``by_block``: attention
    windows, if there are any, are some blocks'. What is ``unset`` must be null or false in config.json. ``starts``:
    every tokenizer has a token that begins a sequence.
    """

    architecture: str
    attention: str = "self_attn"
    query: str = "q_proj"
    value: str = "v_proj"
    output: str = "o_proj"
    mlp: str = "mlp"
    input: str = "input_layernorm"
    attention_norm: str | None = None
    post: str = "post_attention_layernorm"
    mlp_norm: str | None = None
    head_norms: tuple[str, ...] = ()
    centred: bool = False
    biased: tuple[str, ...] = ()
    tied: bool = False
    head_dim: int | None = None
    scaled: bool = False
    by_block: bool = True
    unset: tuple[str, ...] = ()
    starts: bool = True

    @property
    def block_norms(self) -> tuple[str, ...]:
        """All norms of the residual stream's width, in the order of a block's weights."""
        return tuple(norm for norm in (self.input, self.attention_norm, self.post, self.mlp_norm) if norm is not None)

    def projections(self, block: Any) -> tuple[Any, Any]:
        """A block's query and value projections."""
        attention = getattr(block, self.attention)
        return getattr(attention, self.query), getattr(attention, self.value)

    def paper_norms(self, block: Any) -> tuple[Any, Any]:
        """The input and post-attention norms, as the paper calls them."""
        return getattr(block, self.input), getattr(block, self.post)

    def norms(self, block: Any) -> list[Any]:
        """All norms of a block, those of queries and keys among them."""
        attention = getattr(block, self.attention)
        return [getattr(block, norm) for norm in self.block_norms] + [
            getattr(attention, one) for one in self.head_norms
        ]


FAMILIES: Mapping[ModelType, Family] = MappingProxyType(
    {
        "llama": Family("LlamaForCausalLM", by_block=False, unset=("attention_bias", "mlp_bias")),
        "mistral": Family("MistralForCausalLM", by_block=False),
        "qwen2": Family("Qwen2ForCausalLM", biased=("q_proj", "k_proj", "v_proj"), starts=False),
        "qwen3": Family(
            "Qwen3ForCausalLM", head_norms=("q_norm", "k_norm"), head_dim=128, unset=("attention_bias",), starts=False
        ),
        "gemma3_text": Family(
            "Gemma3ForCausalLM",
            attention_norm="post_attention_layernorm",  # LLaMA's of that name is in front of the MLP
            post="pre_feedforward_layernorm",
            mlp_norm="post_feedforward_layernorm",
            head_norms=("q_norm", "k_norm"),
            centred=True,
            tied=True,
            head_dim=256,
            scaled=True,
            unset=(
                "attention_bias", "final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention",
            ),
        ),
    }
)  # fmt: skip
assert tuple(FAMILIES) == get_args(ModelType)


def family_of(llm: Any) -> Family:
    """The family of a model that was built, or of its skeleton without numbers."""
    return FAMILIES[llm.config.model_type]


def declared(config: Mapping[str, Any], path: object) -> ModelType:
    """The family that a config.json names; UserError, which names ``path``, if it is none of these as declared here."""
    named = config.get("model_type")
    found = next((one for one in FAMILIES if one == named), None)
    if found is None:
        raise UserError(f"{path}: model_type is {named}, a family that is not declared; choose {', '.join(FAMILIES)}")
    for key in FAMILIES[found].unset:
        if config.get(key):
            raise UserError(f"{path}: {key} is {config[key]}, with which no {found} is tuned here; choose another LLM")
    return found
