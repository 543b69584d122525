"""The captioning sets' files: Karpathy's splits (``caption_datasets.zip``), COCO's captions and COCO's results."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

from lntune.benchmarks.answer_files import Answer, read_answers
from lntune.benchmarks.official_files import field, parse_json, parse_records, read_json, records_of, unique
from lntune.data.archives import Members
from lntune.errors import UserError

ImageId = int | str
Image = TypeVar("Image", bound=ImageId)

CaptioningSet = Literal["coco", "flickr30k"]

ARCHIVE = "caption_datasets.zip"
IMAGES: dict[CaptioningSet, tuple[str, str]] = {
    "coco": ("val2014.zip", "val2014"),
    "flickr30k": ("flickr30k-images.zip", "flickr30k-images"),
}
"""The archive of a set's images, and the folder in it; COCO's are those of test and validation."""


def split_path(folder: Path, dataset: CaptioningSet) -> Path:
    """Where a set's file is: the archive, and its name in it."""
    return folder / ARCHIVE / f"dataset_{dataset}.json"


def read_split(folder: Path, dataset: CaptioningSet) -> list[object]:
    """The images of a set, each as the file has it; UserError names archive, member and what is wrong."""
    archive, path = Members(folder / ARCHIVE), split_path(folder, dataset)
    content = archive.read_or_refuse(archive.only(path.name))
    return records_of(parse_json(content, path), path, "images")


def read_references(path: Path) -> dict[ImageId, list[str]]:
    """Captions by image id from COCO's format ``{images: [{id}], annotations: [{id, image_id, caption}]}``.

    Raises UserError for an id that comes twice, a caption of an unknown image and an image without a caption.
    """
    content = read_json(path)
    images = parse_records(records_of(content, path, "images"), lambda one: image_id(one, "id"), path, "image")
    if not images:
        raise UserError(f"{path}: holds no images")
    captions: dict[ImageId, list[str]] = unique(((image, list[str]()) for image in images), path, "image id")
    records = records_of(content, path, "annotations")
    annotations = parse_records(records, _parse_annotation, path, "annotation")
    unique(((annotation_id, None) for annotation_id, _, _ in annotations), path, "annotation id")
    for annotation_id, image, caption in annotations:
        if image not in captions:
            raise UserError(f"{path}: annotation id {annotation_id!r}: no image has the id {image!r}")
        captions[image].append(caption)
    for image, found in captions.items():
        if not found:
            raise UserError(f"{path}: image id {image!r} has no caption")
    return captions


def read_captions(path: Path) -> dict[ImageId, Answer]:
    """COCO's result format ``[{image_id, caption}]``: one caption by image id."""
    answers = read_answers(path, "caption")
    ids = parse_records([one.record for one in answers], lambda one: image_id(one, "image_id"), path, "answer")
    return unique(zip(ids, answers, strict=True), path, "image_id")


def write_answers(path: Path, answers: Iterable[tuple[Image, str]]) -> None:
    """Writes pairs of image id and caption in COCO's result format."""
    records = [{"image_id": image, "caption": caption} for image, caption in answers]
    path.write_text(json.dumps(records) + "\n", encoding="utf-8", newline="\n")


def image_id(record: object, key: str) -> ImageId:
    """The id under a record's key: COCO numbers its images; other sets name them."""
    named = isinstance(record, dict) and isinstance(record.get(key), str) and not record[key].isdecimal()
    return field(record, key, str) if named else field(record, key, int)


def _parse_annotation(record: object) -> tuple[ImageId, ImageId, str]:
    return image_id(record, "id"), image_id(record, "image_id"), field(record, "caption", str)
