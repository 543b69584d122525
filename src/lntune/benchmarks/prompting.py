"""What all stages that make a benchmark's questions have in common: the images are looked at before models are asked.

A question that is left out makes the score one of another set, so by default a single broken image stops the stage.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import Field

from lntune.config import Frozen
from lntune.data.drops import Drops, ImageCheck
from lntune.data.images import archive_of
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
    """The questions whose image can be used; the others are noted in ``drops``.

    The role ``images`` holds the archive. ``source`` names a question with its file. UserError if more than
    ``broken_share`` of the questions have an image that cannot be used.
    """
    check = ImageCheck[Question](
        archive_of(job.folder("images"), archive), lambda one: one.image, source, job.execution.workers,
        job.settings.broken_share, "questions",
    )  # fmt: skip
    with job.track(check.images(questions), "images") as progress:
        found = check.faults(questions, progress.advance)
    faulty = [(questions[place], defect) for place, defect in found.items()]
    check.refuse(faulty, len(questions))
    check.note(drops, faulty)
    kept = [question for place, question in enumerate(questions) if place not in found]
    if not kept:
        raise UserError(f"{job.label}: no question is left whose image can be used; fix {check.archive.path}")
    return kept
