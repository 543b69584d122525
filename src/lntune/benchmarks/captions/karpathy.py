"""Karpathy's splits of the captioning sets: ``caption_datasets.zip``, with ``dataset_coco.json`` and its like in it."""

from pathlib import Path
from typing import Literal

from lntune.benchmarks.official_files import parse_json, records_of
from lntune.data.archives import Members

CaptioningSet = Literal["coco", "flickr30k"]

ARCHIVE = "caption_datasets.zip"
IMAGES: dict[CaptioningSet, tuple[str, str]] = {
    "coco": ("val2014.zip", "val2014"),
    "flickr30k": ("flickr30k-images.zip", "flickr30k-images"),
}
"""The archive of a set's images, and the folder in it; COCO's are those of test and validation."""


def member_of(dataset: CaptioningSet) -> str:
    """The name of a set's file in the archive."""
    return f"dataset_{dataset}.json"


def shown_path(folder: Path, dataset: CaptioningSet) -> Path:
    """How messages name a set's file."""
    return folder / ARCHIVE / member_of(dataset)


def read_images(folder: Path, dataset: CaptioningSet) -> list[object]:
    """The images of a set, each as the file has it; UserError names archive, member and what is wrong."""
    archive, path = Members(folder / ARCHIVE), shown_path(folder, dataset)
    content = archive.read_or_refuse(archive.only(member_of(dataset)))
    return records_of(parse_json(content, path), path, "images")
