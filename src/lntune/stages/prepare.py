"""prepare: raw files of a training set to samples, with every record that is left out counted by its reason.

Every image that is kept was decoded once, so that training, days later, does not stop at a broken one.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Literal

import numpy as np
from pydantic import Field

from lntune.config import Frozen
from lntune.data import llava
from lntune.data.drops import Drops, ImageCheck
from lntune.data.images import ImageArchive, ImageError
from lntune.data.samples import Sample, write_samples
from lntune.errors import UserError
from lntune.store.job import Job, Metrics

PACKAGES = ("numpy", "pillow")


class Settings(Frozen):
    """The format, LLaVA-Instruct's types (none: all), how many samples at random (null: all), and the seed.

    ``broken_share`` of the samples that are looked at may have an image that cannot be used; above it the stage stops.
    """

    format: Literal["llava-pretrain", "llava-instruct"]
    types: tuple[str, ...] = Field(strict=False)
    samples: int | None
    broken_share: float
    seed: int


class Execution(Frozen):
    """Threads that decode images; the samples do not depend on it."""

    workers: int = Field(default=1, ge=1)


def choose(
    samples: Sequence[Sample], number: int | None, seed: int, check: ImageCheck[Sample]
) -> tuple[list[Sample], list[tuple[Sample, ImageError]]]:
    """``number`` of the samples at random (null: all) in their old order, and those passed over for their images.

    The samples are looked at in a random order until enough have an image that can be used; so no more images are
    decoded than are needed, and how many threads do it changes nothing.
    """
    order = list(range(len(samples)))
    if number is not None:
        order = np.random.default_rng(seed).permutation(len(samples)).tolist()
    number = len(samples) if number is None else number
    good: list[int] = []
    faults: dict[int, ImageError] = {}
    while order and len(good) < number:
        wanted = number - len(good)
        places, order = order[:wanted], order[wanted:]
        found = check.faults([samples[place] for place in places])
        faults |= {places[at]: defect for at, defect in found.items()}
        good += [place for at, place in enumerate(places) if at not in found]
    faulty = [(samples[place], faults[place]) for place in sorted(faults)]
    return [samples[place] for place in sorted(good)], faulty


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write samples.jsonl, set.json, dropped.json and dropped.jsonl."""
    raw, settings, drops = job.folder("raw"), job.settings, Drops()
    pretrain = settings.format == "llava-pretrain"
    name = llava.PRETRAIN_ARCHIVE if pretrain else llava.INSTRUCT_ARCHIVE
    images = ImageArchive(raw / name)
    if pretrain:
        read, found = llava.pretrain_samples(raw, drops)
    else:
        read, found = llava.instruct_samples(raw, settings.types, drops)
    check = ImageCheck[Sample](
        images, attrgetter("source"), job.execution.workers, settings.broken_share, "samples", job.track
    )
    kept, faulty = choose(found, settings.samples, settings.seed, check)
    check.drop(faulty, len(kept) + len(faulty), drops)
    drops.choose("beyond the number asked for", len(found) - len(kept) - len(faulty))
    if settings.samples is not None and len(kept) < settings.samples:
        held = ", ".join(f"{number} of {file}" for file, number in read.items())
        raise UserError(
            f"data.{job.label}.samples: {settings.samples} are asked for, {len(kept)} are left after the filters of "
            f"the records there are ({held}); ask for fewer"
        )
    if not kept:
        raise UserError(f"{job.label}: no sample is left after the filters; are the files those of one set?")
    write_samples(job.out, name, kept)
    files = {file: {"records": number} for file, number in read.items()}
    return drops.write(job.out, "samples", sum(read.values()), len(kept), files)
