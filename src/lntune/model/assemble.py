"""Puts a multimodal model together from the folders of its parts, and gives it images to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from lntune.config.training import Library
from lntune.data.images import ImageArchive
from lntune.errors import UserError
from lntune.model.features import EncodedImages
from lntune.model.llm import load_llm
from lntune.model.multimodal import MultimodalModel, build_connector
from lntune.model.vision import VisionEncoder, load_vision

CONNECTOR = "connector.safetensors"


def save_connector(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write the connector's weight and bias, which are named ``connector.weight`` and ``connector.bias``."""
    from safetensors.torch import save_file

    own = {name.removeprefix("connector."): value.contiguous() for name, value in weights.items()}
    assert set(own) == {"weight", "bias"}, "nothing else trained"
    save_file(own, folder / CONNECTOR)


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


def images_of(
    encoder: VisionEncoder, archive: Path, members: Sequence[str], *, cache: bool, workers: int = 1
) -> EncodedImages:
    """Features of an archive's members, in the order given, computed when first asked for.

    ``workers`` threads read and decode the images; the features do not depend on their number.
    """
    images = ImageArchive(archive)

    def load(index: int) -> Tensor:
        return encoder.preprocess(images.image_or_refuse(members[index]))

    return EncodedImages(encoder, load, len(members), cache=cache, workers=workers)
