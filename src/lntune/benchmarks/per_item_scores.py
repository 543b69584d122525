"""What a score's marks.json holds, as the strata that figures and their intervals are made of.

    document = json.loads((score / "marks.json").read_text())
    strata_of("POPE", document)["popular"]      # (Stratum(name="popular", items=(image, ...), ...),)

The image is what is drawn, whatever the benchmark: questions about one image are right or wrong together, so
drawing questions would give intervals that are too narrow (docs/statistics.md).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lntune.benchmarks.intervals import Stratum

Strata = tuple[Stratum, ...]

TOKENS = ("all", "image", "text", "last")
"""The tokens over which layer similarity is measured."""


def strata_of(column: str, document: Mapping[str, Any], tokens: str = "all") -> dict[str, Strata]:
    """The strata of each figure of a table's cell, by the figure's part.

    ``MME``: perception and cognition, whose strata are the subtasks; an image's mark is 100 x the share of its
    questions that are right, plus 100 if all are. ``POPE``: the three kinds, in percent. ``VQAv2``: accuracy in
    percent; the part has no name. ``MSCOCO`` and ``Flickr30k``: CIDEr x100 of each image. Its term weights come from
    the references of the whole test set and stay what they are in every resample; so the set's CIDEr is the mean of the
    images', and the interval is that of a mean. ``Similarity``: mean cosine of the layers over ``tokens``, an item a
    question.

    Args:
        column: the column of the table.
        document: the content of marks.json.
        tokens: one of TOKENS; for ``Similarity`` alone.
    """
    assert tokens in TOKENS, tokens
    return _similarity(document, tokens) if column == "Similarity" else _READERS[column](document)


def by_image(images: Mapping[str, str], marks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Marks by question, grouped by the question's image: what marks.json holds of POPE and VQAv2."""
    found: dict[str, dict[str, Any]] = {}
    for question, mark in marks.items():
        found.setdefault(images[question], {})[question] = mark
    return found


def _mme(document: Mapping[str, Any]) -> dict[str, Strata]:
    return {
        part: tuple(
            Stratum.of(name, {str(number): [mark] for number, mark in enumerate(_of_images(right))})
            for name, right in subtasks.items()
        )
        for part, subtasks in document.items()
    }


def _of_images(right: Sequence[bool]) -> list[float]:
    """Each image's mark, of which acc + acc_plus is the mean; two questions in a row are an image's."""
    return [50.0 * (a + b) + 100.0 * (a and b) for a, b in zip(right[::2], right[1::2], strict=True)]


def _pope(document: Mapping[str, Any]) -> dict[str, Strata]:
    return {kind: (_of_questions(kind, images),) for kind, images in document.items()}


def _vqav2(document: Mapping[str, Any]) -> dict[str, Strata]:
    return {"": (_of_questions("VQAv2", document),)}


def _of_questions(name: str, images: Mapping[str, Mapping[str, float]]) -> Stratum:
    return Stratum.of(name, {image: [100.0 * mark for mark in marks.values()] for image, marks in images.items()})


def _captions(document: Mapping[str, Any]) -> dict[str, Strata]:
    return {"": (Stratum.of("captions", {image: [marks["CIDEr"]] for image, marks in document.items()}),)}


def _similarity(document: Mapping[str, Any], tokens: str) -> dict[str, Strata]:
    return {"": (Stratum.of("similarity", {question: [mark] for question, mark in document[tokens].items()}),)}


_READERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Strata]]] = {
    "MME": _mme,
    "POPE": _pope,
    "VQAv2": _vqav2,
    "MSCOCO": _captions,
    "Flickr30k": _captions,
}
