"""What all stages that make a benchmark's questions have in common: the images are looked at before models are asked.

A question that is left out makes the score one of another set, so by default a single broken image stops the stage.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import Field

from lntune.config import Frozen
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
