"""Puts a multimodal model together from the folders of its parts, and gives it pictures to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from lntune.data.archives import PictureArchive
from lntune.errors import UserError
from lntune.model.features import EncodedImages
from lntune.model.multimodal import MultimodalModel, build_connector
from lntune.model.vision import Library, VisionEncoder, load_vision

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CONNECTOR = "connector.safetensors"


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of an LLM's folder; it must know <s>, </s> and a padding token."""
    from transformers import PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder / 'tokenizer.json'}: missing; an LLM's folder needs its tokenizer")
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise UserError(f"{folder / 'tokenizer_config.json'}: names no bos_token or no eos_token")
    return tokenizer


def load_llm(folder: Path) -> "LlamaForCausalLM":
    """The LLaMA in a folder of config.json and safetensors, in float32; other architectures are refused."""
    import torch
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = LlamaConfig.from_pretrained(folder)
    if config.model_type != "llama":
        raise UserError(f"{folder / 'config.json'}: model_type is {config.model_type}, only llama is supported")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: holds no .safetensors; other weight formats are not read")
    model = LlamaForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa"
    )
    assert isinstance(model, LlamaForCausalLM)
    return model


def save_connector(model: MultimodalModel, folder: Path) -> None:
    """Write the connector's weight and bias."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in model.connector.state_dict().items()}, folder / CONNECTOR)


def load_connector(model: MultimodalModel, folder: Path) -> None:
    """Load what :func:`save_connector` wrote; UserError if it belongs to another encoder or LLM."""
    from safetensors.torch import load_file

    state = load_file(folder / CONNECTOR)
    for name, value in model.connector.state_dict().items():
        found = tuple(state[name].shape) if name in state else None
        if found != tuple(value.shape):
            raise UserError(f"{folder / CONNECTOR}: {name} has shape {found}, this model needs {tuple(value.shape)}")
    model.connector.load_state_dict(state)


def assemble(llm: Path, vision: Path, library: Library, *, seed: int) -> MultimodalModel:
    """The model with a fresh connector, drawn from ``seed`` alike for every run of the same widths."""
    language_model, encoder = load_llm(llm), load_vision(vision, library)
    connector = build_connector(encoder.width, language_model.config.hidden_size, seed)
    return MultimodalModel(encoder, connector, language_model)


def pictures_of(encoder: VisionEncoder, archive: Path, members: Sequence[str], *, cache: bool) -> EncodedImages:
    """Features of an archive's members, in the order given, computed when first asked for."""
    pictures = PictureArchive(archive)

    def load(index: int) -> Tensor:
        return encoder.preprocess(pictures.read(members[index]))

    return EncodedImages(encoder, load, len(members), cache=cache)
