"""prepare: raw files of a training set to samples, with every record that is left out counted by its reason."""

import json
from collections import Counter
from typing import Literal

import numpy as np
from pydantic import Field

from lntune.config.base import Frozen
from lntune.data import llava
from lntune.data.archives import opened
from lntune.data.samples import Sample, write_samples
from lntune.errors import UserError
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)


class Settings(Frozen):
    """The format, LLaVA-Instruct's types (none: all), how many samples at random (null: all), and the seed."""

    format: Literal["llava-pretrain", "llava-instruct"]
    types: tuple[str, ...] = Field(strict=False)
    samples: int | None
    seed: int


Execution = NoExecution


def choose(samples: list[Sample], number: int | None, seed: int, name: str) -> list[Sample]:
    """``number`` of the samples at random, in their old order; UserError if set ``name`` has not that many."""
    if not samples:
        raise UserError(f"{name}: no sample is left after the filters; are the records and the pictures of one set?")
    if number is None:
        return samples
    if number > len(samples):
        raise UserError(
            f"data.{name}.samples: {number} are asked for, {len(samples)} are left after the filters; ask for fewer"
        )
    chosen = np.random.default_rng(seed).permutation(len(samples))[:number]
    return [samples[k] for k in sorted(chosen)]


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write samples.jsonl, set.json and dropped.json."""
    raw, settings = job.folder("raw"), job.settings
    pretrain = settings.format == "llava-pretrain"
    archive = llava.PRETRAIN_ARCHIVE if pretrain else llava.INSTRUCT_ARCHIVE
    with opened(raw / archive) as pictures:
        members = set(pictures.namelist())
    dropped: Counter[str] = Counter()
    if pretrain:
        found = list(llava.pretrain_samples(raw, members, dropped))
    else:
        found = list(llava.instruct_samples(raw, members, settings.types, dropped))
    kept = choose(found, settings.samples, settings.seed, job.label)
    if len(kept) < len(found):
        dropped["beyond the number asked for"] += len(found) - len(kept)
    number = write_samples(job.out, archive, kept)
    (job.out / "dropped.json").write_text(json.dumps(dict(sorted(dropped.items())), indent=1) + "\n")
    return {"samples": number, **{f"dropped: {reason}": count for reason, count in sorted(dropped.items())}}
