"""What the stages that give a tuned model questions have in common: what they are told of the model and of asking.

The roles are llm, vision, connector, tuned, questions and images. What plays ``tuned`` is a finetune's folder, or the
folder in a selection that holds the chosen finetune's files.
"""

from typing import Literal

from pydantic import Field

from lntune.config import Frozen
from lntune.config.protocol import Prompting, TemplateName
from lntune.config.training import LoraSettings


class TunedModelSettings(Frozen):
    """How the model was tuned, as far as loading it needs, and how it is asked."""

    method: str
    lora: LoraSettings | None
    template: TemplateName
    system: str | None
    library: Literal["open_clip", "timm"]
    prompting: Prompting
    seed: int


class Execution(Frozen):
    """Questions in one batch, and threads that compute and that decode images."""

    batch_size: int = Field(ge=1)
    threads: int = Field(ge=1)
    workers: int = Field(default=1, ge=1)
