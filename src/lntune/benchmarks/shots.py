"""Few-shot examples that are drawn for each question, from the benchmark's own files.

As Sight-Beyond-Text (47f96a3, ``llava/eval/mmoverall/evaluate.py``) draws them: a pool is drawn once, and of that the
examples of each question. There one generator runs through all questions; here each question has one of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from lntune.config.protocol import DrawnShots
from lntune.data.samples import Question
from lntune.errors import UserError


class Example(NamedTuple):
    """What an example is made of: a question with its id, and the answers of which one is shown."""

    id: str
    question: str
    answers: Sequence[str]


def with_shots(questions: Sequence[Question], pool: Sequence[Example], drawn: DrawnShots, file: Path) -> list[Question]:
    """The questions, each with ``drawn.number`` examples in words, drawn by its own id, itself never among them.

    UserError names the ``file`` of the pool if that holds too few.
    """
    found = []
    for one in questions:
        random = Random(f"{drawn.seed}/{one.id}")
        places = random.sample(range(len(pool)), min(drawn.number + 1, len(pool)))
        others = [pool[place] for place in places if pool[place].id != one.id][: drawn.number]
        if len(others) < drawn.number:
            few = f"has {len(others)} examples for question {one.id} where the protocol draws {drawn.number}"
            raise UserError(f"{file}: {few}; lower number in its drawn_shots")
        shots = tuple((example.question.strip(), random.choice(example.answers).strip()) for example in others)
        found.append(Question(one.id, one.image, one.text, shots))
    return found
