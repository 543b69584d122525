"""questions-captions: one split of a captioning set by Karpathy's file, and its references in COCO's format."""

import json
from typing import Any, Literal

from lntune.benchmarks.official_files import read_json, records_of
from lntune.config.base import Frozen
from lntune.data.questions import Question, write_questions
from lntune.errors import UserError
from lntune.stages.job import Job, Metrics, NoExecution

PACKAGES = ()

_ARCHIVE = {"coco": "val2014.zip", "flickr30k": "flickr30k-images.zip"}
_SPLIT = {"test": "test", "validation": "val"}


class Settings(Frozen):
    """The captioning set, the split, and what is asked of every picture."""

    dataset: Literal["coco", "flickr30k"]
    split: Literal["test", "validation"]
    request: str


Execution = NoExecution


def run(job: Job[Settings, NoExecution]) -> Metrics:
    """Write questions.jsonl, set.json and references.json."""
    settings = job.settings
    path = job.folder("raw") / f"dataset_{settings.dataset}.json"
    questions, annotations = [], []
    for number, image in enumerate(records_of(read_json(path), path, "images")):
        try:
            found = _asked(image, settings)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: images[{number}]: not as in Karpathy's files ({error!r})") from None
        if found is not None:
            questions.append(found[0])
            annotations += found[1]
    if not questions:
        raise UserError(f"{path}: no image belongs to the split {_SPLIT[settings.split]!r}")
    references = {"images": [{"id": int(question.id)} for question in questions], "annotations": annotations}
    (job.out / "references.json").write_text(json.dumps(references) + "\n")
    asked = write_questions(job.out, _ARCHIVE[settings.dataset], questions)
    return {"questions": asked, "references": len(annotations)}


def _asked(image: Any, settings: Settings) -> tuple[Question, list[dict[str, Any]]] | None:
    """What is asked of a picture, and its references; None if it belongs to another split."""
    if image["split"] != _SPLIT[settings.split]:
        return None
    image_id = image["cocoid"] if "cocoid" in image else image["imgid"]
    member = f"{image['filepath']}/{image['filename']}" if "filepath" in image else image["filename"]
    references = [{"image_id": image_id, "id": one["sentid"], "caption": one["raw"]} for one in image["sentences"]]
    return Question(str(image_id), member, settings.request), references
