"""Training samples in one form, whichever data set they come from: a line of JSON each, images named by member."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SAMPLES = "samples.jsonl"
SET = "set.json"


@dataclass(frozen=True)
class Sample:
    """A conversation about one image; turns alternate, the user's first. ``source`` names file and record."""

    id: str
    image: str
    turns: tuple[str, ...]
    source: str


def write_samples(folder: Path, archive: str, samples: Iterable[Sample]) -> int:
    """Write the samples and the name of the archive that holds their images; return how many there are."""
    return write_set(folder, SAMPLES, archive, "samples", samples)


def write_set(folder: Path, name: str, archive: str, unit: str, records: Iterable[object]) -> int:
    """Write dataclasses as lines of ``name``, and set.json; return how many there are."""
    number = 0
    with (folder / name).open("w") as file:
        for record in records:
            file.write(json.dumps(record.__dict__) + "\n")
            number += 1
    (folder / SET).write_text(json.dumps({"archive": archive, unit: number}) + "\n")
    return number


def read_samples(folder: Path) -> tuple[str, list[Sample]]:
    """The archive's name and the samples of a folder that :func:`write_samples` wrote."""
    archive = json.loads((folder / SET).read_text())["archive"]
    samples = []
    with (folder / SAMPLES).open() as file:
        for line in file:
            record = json.loads(line)
            samples.append(Sample(record["id"], record["image"], tuple(record["turns"]), record["source"]))
    return archive, samples
