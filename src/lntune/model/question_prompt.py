"""The prompt that asks a tuned model a benchmark's question, be it to answer or to have its layers compared."""

from lntune.config.protocol import Asking
from lntune.data.questions import Question
from lntune.model.prompts import Turn, render_prompt


def question_prompt(question: Question, asking: Asking, template: str, system: str | None) -> str:
    """The text that the model continues: shots in words, then the picture's placeholder and the question."""
    turns = []
    for shot in asking.shots:
        turns += [Turn("user", shot.question), Turn("assistant", shot.answer)]
    turns.append(Turn("user", "<image>\n" + asking.prompt.format(question=question.text)))
    return render_prompt(template, turns, system=system)
