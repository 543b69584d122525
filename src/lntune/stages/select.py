"""select: the learning rate of one variant, by the CIDEr of its candidates on one split of Flickr30k.

The folder holds the scores of all candidates and, in ``chosen``, the files of the best; a tie goes to the smaller
learning rate. A candidate that diverged, or that its search stopped, has no score and is never chosen. If that is true
of all, ``chosen`` says so.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from lntune.config import Frozen
from lntune.files import link_or_copy
from lntune.store.job import Job, Metrics, NoExecution
from lntune.training.endings import Ending, read_endings, write_endings

PACKAGES = ()

CHOSEN = "chosen"
"""The folder in a selection that holds the chosen candidate's files, and is as good as that candidate's."""


class Settings(Frozen):
    """The learning rates, in the order of the candidates, the split that the scores are of, and how was searched.

    ``search`` is empty where every candidate was trained to its end.
    """

    learning_rates: tuple[float, ...] = Field(min_length=1, strict=False)
    split: str
    search: str = Field(default="", exclude_if=lambda text: not text)


Execution = NoExecution


def judged(rates: Sequence[float], scores: Sequence[Path]) -> tuple[dict[float, float], dict[float, list[Ending]]]:
    """The CIDEr of each candidate with a model, the best first, and how the others ended; ``scores`` are folders."""
    folders = dict(zip(rates, scores, strict=True))
    ended = {rate: runs for rate, folder in folders.items() if (runs := read_endings(folder))}
    found: dict[float, float] = {
        rate: json.loads((folder / "scores.json").read_bytes())["CIDEr"]
        for rate, folder in folders.items()
        if rate not in ended
    }
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0]))), ended


def candidates_of(
    rates: Sequence[float], scores: Mapping[float, float], ended: Mapping[float, Sequence[Ending]]
) -> list[dict[str, Any]]:
    """What a file says of each candidate."""
    return [
        {"learning_rate": rate, "CIDEr": scores.get(rate)} | (ended[rate][0].facts if rate in ended else {})
        for rate in rates
    ]


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write selection.json and chosen/."""
    rates = job.settings.learning_rates
    scores, ended = judged(rates, job.folders("scores"))
    best = next(iter(scores), None)
    (job.out / CHOSEN).mkdir()
    metrics: Metrics
    if best is None:
        metrics = write_endings(job.out / CHOSEN, [one for runs in ended.values() for one in runs])
    else:
        metrics = {"learning_rate": best, "CIDEr": scores[best]}
        for name in ("tuned.safetensors", "metrics.jsonl"):
            link_or_copy(job.folders("candidates")[rates.index(best)] / name, job.out / CHOSEN / name)
    selection = {
        "split": job.settings.split,
        **({"search": job.settings.search} if job.settings.search else {}),
        "metric": "Flickr30k CIDEr",
        "learning_rate": best,
        "candidates": candidates_of(rates, scores, ended),
    }
    (job.out / "selection.json").write_text(json.dumps(selection, indent=1) + "\n", encoding="utf-8")
    return metrics
