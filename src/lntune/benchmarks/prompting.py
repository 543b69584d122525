"""What stages that make a benchmark's questions have in common: images are looked at, few-shot examples are drawn.

A question that is left out makes the score one of another set, so by default a single broken image stops the stage.

Examples come from the benchmark's own files, as Sight-Beyond-Text (47f96a3, ``llava/eval/mmoverall/evaluate.py``) draws
them: a pool is drawn once, and of that the examples of each question. There one generator runs through all questions;
here each question has one of its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from pydantic import Field

from lntune.config import Frozen
from lntune.config.protocol import DrawnShots
from lntune.data.drops import Drops, ImageCheck
from lntune.data.images import ImageArchive
from lntune.data.samples import Question
from lntune.errors import UserError
from lntune.store.job import Job


class Execution(Frozen):
    """Threads that decode images; the questions do not depend on it."""

    workers: int = Field(default=1, ge=1)


class QuestionSettings(Frozen):
    """What share of the questions may have an image that cannot be used."""

    broken_share: float


AnySettings = TypeVar("AnySettings", bound=QuestionSettings)


def with_images(
    job: Job[AnySettings, Execution],
    archive: str,
    questions: Sequence[Question],
    source: Callable[[Question], str],
    drops: Drops,
) -> list[Question]:
    """The questions whose image, in the archive of the role ``images``, can be used; others are noted in ``drops``.

    ``source`` names a question with its file. UserError if they are more than ``broken_share`` of all, or all.
    """
    images = ImageArchive(job.folder("images") / archive)
    check = ImageCheck(images, source, job.execution.workers, job.settings.broken_share, "questions", job.track)
    found = check.faults(questions)
    check.drop([(questions[place], defect) for place, defect in found.items()], len(questions), drops)
    kept = [question for place, question in enumerate(questions) if place not in found]
    if not kept:
        raise UserError(f"{job.label}: no question is left whose image can be used; fix {images.path}")
    return kept


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
