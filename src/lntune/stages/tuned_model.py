"""What the stages that give a tuned model questions have in common: what they are told of the model and of asking.

The roles are llm, vision, connector, tuned, questions and images. What plays ``tuned`` is a finetune's folder, or the
folder in a selection that holds the chosen finetune's files.
"""

from pydantic import Field

from lntune.config import Frozen
from lntune.config.protocol import Prompting, TemplateName
from lntune.config.training import Library, LoraSettings
from lntune.data.questions import Question
from lntune.model.prompts import Turn, render_prompt


class TunedModelSettings(Frozen):
    """How the model was tuned, as far as loading it needs, and how it is asked."""

    method: str
    lora: LoraSettings | None
    template: TemplateName
    system: str | None
    library: Library
    prompting: Prompting
    seed: int

    def prompt(self, question: Question) -> str:
        """The text that the model continues: shots in words, then the image's placeholder and the question."""
        turns = []
        for shot in self.prompting.shots:
            turns += [Turn("user", shot.question), Turn("assistant", shot.answer)]
        turns.append(Turn("user", "<image>\n" + self.prompting.prompt.format(question=question.text)))
        return render_prompt(self.template, turns, system=self.system)


class Execution(Frozen):
    """Questions in one batch, and threads that compute and that decode images."""

    batch_size: int = Field(ge=1)
    threads: int = Field(ge=1)
    workers: int = Field(default=1, ge=1)
