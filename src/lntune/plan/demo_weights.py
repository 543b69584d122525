"""``workflow/demo_weights.yaml``: how the demo's vision encoders and LLMs are trained.

The plan of the demo's weights, and how they get into the repository.

They play the part that downloads play at paper scale, so they have a workflow of their own
(``workflow/demo_weights.smk``, ``make demo-weights``), and the demo knows them by the catalogue alone.
"""

import shutil
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from lntune.benchmarks.registry import protocol_settings
from lntune.commands.pin import pin
from lntune.config.base import Frozen
from lntune.config.load import load, shown
from lntune.errors import UserError
from lntune.plan.code_version import CodeVersions, read_accepted
from lntune.plan.node import Node, make_node


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


RECIPES = Path("workflow/demo_weights.yaml")
WEIGHTS = Path("workflow/weights")
RECORD = "record.json"
"""The manifest of the training, beside the weights."""

_KEPT = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "open_clip_config.json",
    "open_clip_model.safetensors",
)  # fmt: skip
_ABOUT = {
    "train-clip": "the demo's CLIP, trained contrastively on drawn images and their captions",
    "train-vit": "the demo's ImageNet-style ViT, trained to classify drawn images",
    "train-llm": "the demo's LLM in this role, trained on text alone",
}


class DemoWeightsPlan:
    """One node for each recipe."""

    def __init__(self, root: Path, recipes: Path = RECIPES) -> None:
        self.root = root
        self.settings = load(root / recipes, DemoWeightsSettings)
        self.file = root / recipes
        self.execution = {"threads": self.settings.threads}
        self.code_versions = CodeVersions(read_accepted(root))

    def names(self) -> list[str]:
        """All recipes."""
        return [*self.settings.clip, *self.settings.vit, *self.settings.llms]

    @cache  # noqa: B019 - a plan lives as long as its process
    def node(self, name: str) -> Node:
        """The node of a recipe; UserError names a key that its stage does not take."""
        try:
            return self._node(name)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(f"{shown(self.file)}: {self._section(name, key)}.{key}: {first['msg']}") from None

    def _section(self, name: str, key: str) -> str:
        """Where in the recipes a key of a recipe stands."""
        settings = self.settings
        if name not in settings.llms:
            return f"{'clip' if name in settings.clip else 'vit'}.{name}"
        if key.split(".")[0] in LlmRecipe.model_fields:
            return f"llms.{name}"
        return "tuning" if settings.llms[name].base else "pretraining"

    def _node(self, name: str) -> Node:
        settings, seed = self.settings, {"seed": self.settings.seed}
        if name in settings.clip:
            return make_node(
                self.code_versions.of("train-clip"), [name], {**settings.clip[name], **seed}, {}, self.execution
            )
        if name in settings.vit:
            return make_node(
                self.code_versions.of("train-vit"), [name], {**settings.vit[name], **seed}, {}, self.execution
            )
        recipe = settings.llms[name]
        if recipe.base is not None and recipe.base not in settings.llms:
            raise UserError(f"{self.file}: llms.{name}.base: there is no llm '{recipe.base}'")
        rest = settings.tuning if recipe.base else settings.pretraining
        chosen = {
            **rest,
            "shape": recipe.shape,
            "steps": recipe.steps,
            "templates": recipe.templates,
            "texts": self._protocol_texts(),
            **seed,
        }
        base = {"base": self.node(recipe.base)} if recipe.base else {}
        return make_node(self.code_versions.of("train-llm"), [name], chosen, base, self.execution)

    @cache  # noqa: B019
    def _protocol_texts(self) -> tuple[str, ...]:
        """All that the evaluation protocols say, so that the tokenizer knows it."""
        texts = []
        for path in sorted((self.root / "workflow" / "protocols").glob("*.yaml")):
            asked = [options for _, options in load(path, protocol_settings()).benchmarks]
            texts += [options.request for options in asked if hasattr(options, "request")]
            for prompting in asked:
                texts.append(prompting.prompt.format(question=""))
                texts += [text for shot in prompting.shots for text in (shot.question, shot.answer)]
        return tuple(texts)

    def publish(self, name: str, result: Path) -> None:
        """Put a finished result's weights into the repository and their digests into the catalogue."""
        target = self.root / WEIGHTS / name
        target.mkdir(parents=True, exist_ok=True)
        for file in _KEPT:
            if (result / file).is_file():
                shutil.copyfile(result / file, target / file)
        shutil.copyfile(result / "manifest.json", target / RECORD)
        about = _ABOUT[self.node(name).stage]
        pin(self.root, f"demo-{name}", target, about, self.settings.licence, leave_out={RECORD})
