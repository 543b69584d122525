"""The demo's weights, by ``workflow/demo_weights.yaml``: how its vision encoders and LLMs are trained.

They play the part that downloads play at paper scale, so they have a workflow of their own
(``workflow/demo_weights.smk``, ``make demo-weights``), and the demo knows them by the catalogue alone.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from lntune.benchmarks.registry import protocol_settings
from lntune.config import Frozen
from lntune.config.load import load, shown
from lntune.config.protocol import TemplateName
from lntune.errors import UserError
from lntune.plan.node import Node, make_node, result_folder
from lntune.plan.stages import code_version, read_accepted, stage_module
from lntune.plan.study import once
from lntune.snakefile.workflow import StageRules
from lntune.stages import train_clip, train_llm, train_vit
from lntune.store.manifest import MANIFEST, Store
from lntune.store.sharing import one_line

RECIPES = Path("workflow/demo_weights.yaml")

_RECORD = "record.json"
"""The manifest of the training, next to the weights."""
_WEIGHT_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "open_clip_config.json",
    "open_clip_model.safetensors",
)  # fmt: skip
_ABOUT = {
    "train-clip": "the demo's CLIP, trained contrastively on drawn images and their captions",
    "train-vit": "the demo's ImageNet-style ViT, trained to classify drawn images",
    "train-llm": "the demo's LLM in this role, trained on text alone",
}


class LlmRecipe(Frozen):
    """An LLM with a shape of its own, or one that goes on from another's weights."""

    shape: train_llm.Shape | None = None
    base: str | None = None
    steps: int = Field(ge=1)
    templates: tuple[TemplateName, ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def _exactly_one(self) -> "LlmRecipe":
        if (self.shape is None) == (self.base is None):
            raise ValueError("give exactly one of shape and base")
        return self


class DemoWeightsSettings(Frozen):
    """The recipes by name; LLMs with a shape of their own share ``pretraining``, the others ``tuning``."""

    seed: int
    licence: str
    threads: int = Field(ge=1)
    clip: dict[str, train_clip.Recipe]
    vit: dict[str, train_vit.Recipe]
    llms: dict[str, LlmRecipe]
    pretraining: train_llm.Course
    tuning: train_llm.Course


class DemoWeightsPlan:
    """One node for each recipe."""

    def __init__(self, root: Path, recipes: Path = RECIPES) -> None:
        self.root, self.file = root, root / recipes
        self.settings = load(self.file, DemoWeightsSettings)
        self._edits = read_accepted(root)

    def nodes(self) -> dict[str, Node]:
        """The nodes of all recipes, by name."""
        return {name: self.node(name) for name in (*self.settings.clip, *self.settings.vit, *self.settings.llms)}

    @once
    def node(self, name: str) -> Node:
        """The node of a recipe; UserError if it goes on from an LLM that there is not."""
        recipes, inputs = self.settings, {}
        settings: Frozen
        if name in recipes.clip:
            stage, settings = "train-clip", train_clip.Settings(**dict(recipes.clip[name]), seed=recipes.seed)
        elif name in recipes.vit:
            stage, settings = "train-vit", train_vit.Settings(**dict(recipes.vit[name]), seed=recipes.seed)
        else:
            recipe = recipes.llms[name]
            if recipe.base is not None:
                if recipe.base not in recipes.llms:
                    raise UserError(f"{shown(self.file)}: llms.{name}.base: there is no llm '{recipe.base}'")
                inputs["base"] = self.node(recipe.base)
            stage = "train-llm"
            settings = train_llm.Settings(
                **dict(recipes.tuning if recipe.base else recipes.pretraining),
                shape=recipe.shape,
                steps=recipe.steps,
                templates=recipe.templates,
                texts=self._protocol_texts(),
                seed=recipes.seed,
            )
        execution = stage_module(stage).Execution(threads=recipes.threads)
        return make_node(code_version(stage, self._edits), [name], settings, inputs, execution)

    @once
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


class DemoWeightsWorkflow(StageRules):
    """The plan of the demo's weights as Snakemake sees it (workflow/demo_weights.smk)."""

    def __init__(self, root: Path, overrides: Mapping[str, Any]) -> None:
        with one_line():
            self.plan = DemoWeightsPlan(root, Path(overrides.get("recipes", RECIPES)))
            super().__init__(Store(Path(overrides.get("store", "results"))), self.plan.nodes().values())

    def targets(self) -> list[str]:
        """The manifests of all recipes."""
        return [self._manifest(node) for node in self.nodes()]

    def publish(self, pin: Callable[..., object]) -> None:
        """Put the weights into the repository and the catalogue, unless a test asked for other recipes.

        ``pin`` enters a folder into the catalogue (lntune.commands.pin).
        """
        root = self.plan.root
        if self.plan.file != root / RECIPES:
            return
        for name, node in self.plan.nodes().items():
            result, target = result_folder(self.results, node), root / "workflow" / "weights" / name
            target.mkdir(parents=True, exist_ok=True)
            for file in _WEIGHT_FILES:
                if (result / file).is_file():
                    shutil.copyfile(result / file, target / file)
            shutil.copyfile(result / MANIFEST, target / _RECORD)
            pin(root, f"demo-{name}", target, _ABOUT[node.stage], self.plan.settings.licence, leave_out={_RECORD})
