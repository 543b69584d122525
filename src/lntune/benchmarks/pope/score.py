"""score-pope: POPE's accuracy and its companions, for each of the three files."""

import json

from lntune.benchmarks.intervals import Stratum, figure, over_items
from lntune.benchmarks.per_item_scores import by_image, strata_of
from lntune.benchmarks.pope import metric as pope_score
from lntune.benchmarks.pope.files import KINDS
from lntune.config import Frozen
from lntune.data.questions import read_answers, read_questions
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("numpy",)


class Settings(Frozen):
    """Nothing to choose."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write an official answer file for each kind, scores.json and marks.json."""
    answers = read_answers(job.folder("answers"))
    _, questions = read_questions(job.folder("questions"))
    images = {question.id: question.image for question in questions}
    scores, right = {}, dict[str, dict[str, bool]]()
    for kind in KINDS:
        official = job.folder("questions") / f"coco_pope_{kind}.json"
        said = job.out / f"coco_pope_{kind}_answers.jsonl"
        mine = [question for question in questions if question.id.startswith(f"{kind}/")]
        pope_score.write_answers(said, ((question.text, answers[question.id]) for question in mine))
        scores[kind] = pope_score.score(official, said)
        right[kind] = {f"{kind}/{id}": mark for id, mark in pope_score.marks(official, said).items()}
    marks = {kind: by_image(images, right[kind]) for kind in KINDS}
    intervals = {kind: over_items([strata]) for kind, strata in strata_of("POPE", marks).items()}
    # An image comes with its questions of all three kinds.
    together = by_image(images, {id: 100.0 * mark for by_id in right.values() for id, mark in by_id.items()})
    all_kinds = [Stratum.of("POPE", {image: list(by_id.values()) for image, by_id in together.items()})]
    mean = figure(all_kinds)
    document = {**scores, "mean_accuracy": mean, "intervals": {**intervals, "mean_accuracy": over_items([all_kinds])}}
    (job.out / "scores.json").write_text(json.dumps(document, indent=1) + "\n")
    (job.out / "marks.json").write_text(json.dumps(marks) + "\n")
    return {"mean_accuracy": mean}
