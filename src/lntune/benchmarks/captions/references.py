"""COCO's caption format (references) and result format (answers), read strictly and written."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from lntune.benchmarks.official_files import field, parse_records, read_json, records_of, unique
from lntune.errors import UserError

ImageId = int | str
Image = TypeVar("Image", bound=ImageId)


def read_references(path: Path) -> dict[ImageId, list[str]]:
    """Captions by image id from COCO's format ``{images: [{id}], annotations: [{id, image_id, caption}]}``.

    Raises UserError for an id that comes twice, a caption of an unknown image and an image without a caption.
    """
    content = read_json(path)
    images = parse_records(records_of(content, path, "images"), _parse_image, path, "image")
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


def read_answers(path: Path) -> dict[ImageId, str]:
    """COCO's result format ``[{image_id, caption}]``: one caption by image id."""
    records = records_of(read_json(path), path)
    return unique(parse_records(records, _parse_answer, path, "answer"), path, "image_id")


def write_answers(path: Path, answers: Iterable[tuple[Image, str]]) -> None:
    """Writes pairs of image id and caption in COCO's result format."""
    records = [{"image_id": image, "caption": caption} for image, caption in answers]
    path.write_text(json.dumps(records) + "\n", encoding="utf-8", newline="\n")


def image_id(record: object, key: str) -> ImageId:
    """The id under a record's key: COCO numbers its images; other sets name them."""
    if isinstance(record, dict) and isinstance(record.get(key), str):
        return field(record, key, str)
    return field(record, key, int)


def _parse_image(record: object) -> ImageId:
    return image_id(record, "id")


def _parse_annotation(record: object) -> tuple[ImageId, ImageId, str]:
    return image_id(record, "id"), image_id(record, "image_id"), field(record, "caption", str)


def _parse_answer(record: object) -> tuple[ImageId, str]:
    return image_id(record, "image_id"), field(record, "caption", str)
