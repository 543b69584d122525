"""select: the learning rate of one variant, by the CIDEr of its candidates on one split of Flickr30k.

The folder holds the scores of all candidates and, in ``chosen``, the files of the best; a tie goes to the smaller
learning rate.
"""

import json

from pydantic import Field

from lntune.config import Frozen
from lntune.files import link_or_copy
from lntune.store.job import Job, Metrics, NoExecution

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
    scores = [json.loads((folder / "scores.json").read_text())["CIDEr"] for folder in job.folders("scores")]
    best = max(range(len(rates)), key=lambda k: (scores[k], -rates[k]))
    (job.out / CHOSEN).mkdir()
    for name in ("tuned.safetensors", "metrics.jsonl"):
        link_or_copy(job.folders("candidates")[best] / name, job.out / CHOSEN / name)
    selection = {
        "split": job.settings.split,
        "metric": "Flickr30k CIDEr",
        "learning_rate": rates[best],
        "candidates": [{"learning_rate": r, "CIDEr": s} for r, s in zip(rates, scores, strict=True)],
    }
    (job.out / "selection.json").write_text(json.dumps(selection, indent=1) + "\n")
    return {"learning_rate": rates[best], "CIDEr": scores[best]}
