"""``workflow/demo_weights.yaml``: how the demo's vision encoders and LLMs are trained."""

from typing import Any

from pydantic import Field, model_validator

from lntune.config.base import Frozen


class LlmRecipe(Frozen):
    """An LLM with a shape of its own, or one that goes on from another's weights."""

    shape: dict[str, int] | None = None
    base: str | None = None
    steps: int = Field(ge=1)
    templates: tuple[str, ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def _exactly_one(self) -> "LlmRecipe":
        if (self.shape is None) == (self.base is None):
            raise ValueError("give exactly one of shape and base")
        return self


class DemoWeightsSettings(Frozen):
    """The recipes by name; ``clip`` and ``vit`` hold the settings of the stages train-clip and train-vit."""

    seed: int
    licence: str
    threads: int = Field(ge=1)
    clip: dict[str, dict[str, Any]]
    vit: dict[str, dict[str, Any]]
    llms: dict[str, LlmRecipe]
    pretraining: dict[str, Any]
    tuning: dict[str, Any]
