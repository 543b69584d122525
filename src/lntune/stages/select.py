"""select: the learning rate of one variant, by the CIDEr of its candidates on one split of Flickr30k.

The folder holds the scores of all candidates and, in ``chosen``, the files of the best; a tie goes to the smaller
learning rate. A candidate that diverged has no score and is never chosen. If all did, ``chosen`` says so.
"""

import json

from pydantic import Field

from lntune.config import Frozen
from lntune.files import link_or_copy
from lntune.store.job import Job, Metrics, NoExecution
from lntune.training.divergence import read_divergences, write_divergences

PACKAGES = ()

CHOSEN = "chosen"
"""The folder in a selection that holds the chosen candidate's files, and is as good as that candidate's."""


class Settings(Frozen):
    """The learning rates, in the order of the candidates, and the split that the scores are of."""

    learning_rates: tuple[float, ...] = Field(min_length=1, strict=False)
    split: str


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write selection.json and chosen/."""
    rates = job.settings.learning_rates
    folders = dict(zip(rates, job.folders("scores"), strict=True))
    diverged = {rate: run for rate, folder in folders.items() for run in read_divergences(folder)}
    scores = {
        rate: json.loads((folder / "scores.json").read_bytes())["CIDEr"]
        for rate, folder in folders.items()
        if rate not in diverged
    }
    best = max(scores, key=lambda rate: (scores[rate], -rate), default=None)
    (job.out / CHOSEN).mkdir()
    metrics: Metrics
    if best is None:
        metrics = write_divergences(job.out / CHOSEN, list(diverged.values()))
    else:
        metrics = {"learning_rate": best, "CIDEr": scores[best]}
        for name in ("tuned.safetensors", "metrics.jsonl"):
            link_or_copy(job.folders("candidates")[rates.index(best)] / name, job.out / CHOSEN / name)
    selection = {
        "split": job.settings.split,
        "metric": "Flickr30k CIDEr",
        "learning_rate": best,
        "candidates": [
            {"learning_rate": rate, "CIDEr": scores.get(rate)}
            | ({"diverged_at": diverged[rate].step} if rate in diverged else {})
            for rate in rates
        ],
    }
    (job.out / "selection.json").write_text(json.dumps(selection, indent=1) + "\n", encoding="utf-8")
    return metrics
