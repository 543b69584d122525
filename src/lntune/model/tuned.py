"""Puts a tuned model together: the folders of its parts, the method's changes, and the weights that were trained."""

from pathlib import Path

from lntune.config.training import Library, LoraSettings
from lntune.model import device
from lntune.model.multimodal import MultimodalModel, assemble, load_connector
from lntune.model.tuning import apply_method, load_trainable


def load_tuned(
    llm: Path,
    vision: Path,
    connector: Path,
    tuned: Path,
    *,
    library: Library,
    method: str,
    lora: LoraSettings | None,
    seed: int,
) -> MultimodalModel:
    """The model in evaluation mode, in float32, where it computes; ``tuned`` holds tuned.safetensors.

    Raises:
        UserError: a part does not fit the others.
    """
    from safetensors.torch import load_file

    model = assemble(llm, vision, library, seed=seed)
    load_connector(model, connector)
    apply_method(model, method, lora, seed=seed)
    load_trainable(model, load_file(tuned / "tuned.safetensors"))
    return device.place(model).eval()
