"""questions-captions: one split of a captioning set by Karpathy's file, and its references in COCO's format."""

import json
from collections import Counter
from random import Random
from typing import Any, Literal

from lntune.benchmarks.captions import formats
from lntune.benchmarks.prompting import Example, Execution, QuestionSettings, with_images, with_shots
from lntune.config.protocol import DrawnShots
from lntune.data.drops import Drops
from lntune.data.samples import Question, write_questions
from lntune.errors import UserError
from lntune.store.job import Job, Metrics

__all__ = ["PACKAGES", "Execution", "Settings", "run"]

PACKAGES = ("pillow",)

_SPLIT = {"test": "test", "validation": "val"}

_TRAINING = ("train", "restval")
"""The splits that are trained on by custom: 113,287 images of COCO, 29,000 of Flickr30k."""


class Settings(QuestionSettings):
    """The captioning set, the split, what is asked of every image, and the examples drawn for it if any are."""

    dataset: Literal["coco", "flickr30k"]
    split: Literal["test", "validation"]
    request: str
    shots: DrawnShots | None = None


def run(job: Job[Settings, Execution]) -> Metrics:
    """Write questions.jsonl, set.json, references.json, dropped.json and dropped.jsonl."""
    settings, drops = job.settings, Drops()
    path = formats.split_path(job.folder("raw"), settings.dataset)
    images: list[Any] = formats.read_split(job.folder("raw"), settings.dataset)
    questions: list[Question] = []
    references: dict[str, list[dict[str, Any]]] = {}
    sources: dict[str, str] = {}
    examples: list[Example] = []
    counts = Counter({"images": len(images)})
    for number, image in enumerate(images):
        try:
            found = _asked(image, settings)
            counts[f"images of {image['split']}"] += 1
            counts[f"captions of {image['split']}"] += len(image["sentences"])
            if settings.shots and image["split"] in _TRAINING:
                examples.append(Example("", settings.request, [one["raw"] for one in image["sentences"]]))
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: images[{number}]: not as in Karpathy's files ({error!r}); get it again") from None
        if found is not None:
            question, said = found
            questions.append(question)
            references[question.id], sources[question.id] = said, f"{path.name}[{number}]"
    if not questions:
        raise UserError(f"{path}: no image belongs to the split {_SPLIT[settings.split]!r}; take Karpathy's file")
    drops.choose("of another split", len(images) - len(questions))
    archive, _ = formats.IMAGES[settings.dataset]
    kept = with_images(job, archive, questions, lambda one: sources[one.id], drops)
    annotations = [one for question in kept for one in references[question.id]]
    document = {"images": [{"id": int(question.id)} for question in kept], "annotations": annotations}
    (job.out / "references.json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    if settings.shots:
        pool = Random(settings.shots.seed).sample(examples, min(settings.shots.pool, len(examples)))
        kept = with_shots(kept, pool, settings.shots, path)
    write_questions(job.out, archive, kept)
    metrics = drops.write(job.out, "questions", len(images), len(kept), {formats.ARCHIVE: dict(counts)})
    return metrics | {"references": len(annotations)}


def _asked(image: Any, settings: Settings) -> tuple[Question, list[dict[str, Any]]] | None:
    """What is asked of an image, and its references; None if it belongs to another split."""
    if image["split"] != _SPLIT[settings.split]:
        return None
    image_id = image["cocoid"] if settings.dataset == "coco" else image["imgid"]
    _, folder = formats.IMAGES[settings.dataset]
    # COCO's file names the folder of each image: one that is not val2014's is missing from the archive, and noticed.
    member = f"{image['filepath'] if settings.dataset == 'coco' else folder}/{image['filename']}"
    references = [{"image_id": image_id, "id": one["sentid"], "caption": one["raw"]} for one in image["sentences"]]
    return Question(str(image_id), member, settings.request), references
