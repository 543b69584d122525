"""The plan of the demo's weights, by ``workflow/demo_weights.yaml``: how its vision encoders and LLMs are trained.

They play the part that downloads play at paper scale, so they have a workflow of their own
(``workflow/demo_weights.smk``, ``make demo-weights``), and the demo knows them by the catalogue alone.
"""

from pathlib import Path

from pydantic import Field, model_validator

from lntune.benchmarks.registry import protocol_settings
from lntune.config import Frozen
from lntune.config.load import load, shown
from lntune.config.protocol import TemplateName
from lntune.errors import UserError
from lntune.plan.node import Node, make_node
from lntune.plan.stages import CodeVersions, read_accepted
from lntune.plan.study import once
from lntune.stages import train_clip, train_llm, train_vit


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


RECIPES = Path("workflow/demo_weights.yaml")


class DemoWeightsPlan:
    """One node for each recipe."""

    def __init__(self, root: Path, recipes: Path = RECIPES) -> None:
        self.root = root
        self.settings = load(root / recipes, DemoWeightsSettings)
        self.file = root / recipes
        self.code_versions = CodeVersions(read_accepted(root))

    def names(self) -> list[str]:
        """All recipes."""
        return [*self.settings.clip, *self.settings.vit, *self.settings.llms]

    @once
    def node(self, name: str) -> Node:
        """The node of a recipe; UserError if it goes on from an LLM that there is not."""
        settings, seed, threads = self.settings, self.settings.seed, self.settings.threads
        if name in settings.clip:
            clip = train_clip.Settings(**dict(settings.clip[name]), seed=seed)
            return self._made("train-clip", name, clip, train_clip.Execution(threads=threads))
        if name in settings.vit:
            vit = train_vit.Settings(**dict(settings.vit[name]), seed=seed)
            return self._made("train-vit", name, vit, train_vit.Execution(threads=threads))
        recipe = settings.llms[name]
        if recipe.base is not None and recipe.base not in settings.llms:
            raise UserError(f"{shown(self.file)}: llms.{name}.base: there is no llm '{recipe.base}'")
        llm = train_llm.Settings(
            **dict(settings.tuning if recipe.base else settings.pretraining),
            shape=recipe.shape,
            steps=recipe.steps,
            templates=recipe.templates,
            texts=self._protocol_texts(),
            seed=seed,
        )
        base = {"base": self.node(recipe.base)} if recipe.base else {}
        return self._made("train-llm", name, llm, train_llm.Execution(threads=threads), base)

    def _made(
        self, stage: str, name: str, settings: Frozen, execution: Frozen, inputs: dict[str, Node] | None = None
    ) -> Node:
        return make_node(self.code_versions.of(stage), [name], settings, inputs, execution)

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
