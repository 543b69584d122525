"""A tuned model, loaded from the folders of its parts, and the prompt for a benchmark's question."""

from pathlib import Path

from lntune.config.protocol import Prompting
from lntune.config.training import LoraSettings
from lntune.data.questions import Question
from lntune.model import device
from lntune.model.multimodal import MultimodalModel, assemble, load_connector
from lntune.model.prompts import Turn, render_prompt
from lntune.model.tuning import apply_method, load_trainable
from lntune.model.vision import Library


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


def question_prompt(question: Question, prompting: Prompting, template: str, system: str | None) -> str:
    """The text that the model continues: shots in words, then the image's placeholder and the question."""
    turns = []
    for shot in prompting.shots:
        turns += [Turn("user", shot.question), Turn("assistant", shot.answer)]
    turns.append(Turn("user", "<image>\n" + prompting.prompt.format(question=question.text)))
    return render_prompt(template, turns, system=system)
