"""questions-captions: one split of a captioning set by Karpathy's file, and its references in COCO's format."""

import json
from typing import Literal

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
    try:
        images = json.loads(path.read_text())["images"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not one of Karpathy's split files ({error!r}); download it again") from None
    chosen = [image for image in images if image["split"] == _SPLIT[settings.split]]
    questions, annotations = [], []
    for image in chosen:
        image_id = image.get("cocoid", image["imgid"])
        member = f"{image['filepath']}/{image['filename']}" if "filepath" in image else image["filename"]
        questions.append(Question(str(image_id), member, settings.request))
        for sentence in image["sentences"]:
            annotations.append({"image_id": image_id, "id": sentence["sentid"], "caption": sentence["raw"]})
    references = {"images": [{"id": int(question.id)} for question in questions], "annotations": annotations}
    (job.out / "references.json").write_text(json.dumps(references) + "\n")
    return {"questions": write_questions(job.out, _ARCHIVE[settings.dataset], questions), "references": len(annotations)}
