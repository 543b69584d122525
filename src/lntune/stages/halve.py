"""halve: which candidates of one variant go on after a part of their steps: those with the best CIDEr until then.

A folder for each candidate, named after its learning rate, holds the empty file ``kept``, or why it goes no further:
stopped.json or diverged.json. places.json has the scores. A tie goes to the smaller learning rate, as in ``select``.
"""

import json

from pydantic import Field

from lntune.config import Frozen
from lntune.stages.select import candidates_of, judged
from lntune.store.job import KEPT, Job, Metrics, NoExecution
from lntune.training.endings import Stop, write_endings

PACKAGES = ()


class Settings(Frozen):
    """The learning rates, in the order of the candidates, how many go on, and the split that the scores are of."""

    learning_rates: tuple[float, ...] = Field(min_length=1, strict=False)
    keep: int = Field(ge=1)
    split: str


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write places.json and a folder for each learning rate."""
    settings, rates = job.settings, job.settings.learning_rates
    scores, ended = judged(rates, job.folders("scores"))
    logs = [job.folders("candidates")[rates.index(rate)] / "metrics.jsonl" for rate in scores]
    step = logs[0].read_bytes().count(b"\n") if logs else 0
    stops = [
        Stop(learning_rate=rate, step=step, score=scores[rate], place=place, candidates=len(scores))
        for place, rate in enumerate(scores, 1)
        if place > settings.keep
    ]
    ended |= {stop.learning_rate: [stop] for stop in stops}
    for rate in rates:
        (job.out / str(rate)).mkdir()
        if rate in ended:
            write_endings(job.out / str(rate), ended[rate])
        else:
            (job.out / str(rate) / KEPT).touch()
    found = {
        "split": settings.split,
        "metric": "Flickr30k CIDEr",
        "step": step,
        "keep": settings.keep,
        "candidates": candidates_of(rates, scores, ended),
    }
    (job.out / "places.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return {"kept": len(rates) - len(ended), "stopped": len(stops)}
