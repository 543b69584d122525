"""Caption scores by pycocoevalcap (CIDEr, BLEU, ROUGE-L) from COCO's caption and result formats.

CIDEr's term weights come from the images that are scored: scores of a subset and of the full set do not
compare, and a single image always scores 0.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from lntune.benchmarks.java import java_first_on_path
from lntune.benchmarks.official_files import (
    check_same_ids,
    field,
    parse_records,
    read_json,
    records_of,
    unique,
)
from lntune.errors import UserError

ImageId = int | str
Image = TypeVar("Image", bound=ImageId)

# The tokenizer works line by line and takes most of these for a line's end, which shifts every later caption.
_LINE_BREAKS = str.maketrans(dict.fromkeys("\t\n\v\f\r\x85\u2028\u2029", " "))
# A tokenizer that lives for a second: start fast, take little memory.
_JVM_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Tokenizer(Protocol):
    """Whatever turns each group of captions into as many lines of words, as :func:`tokenize` does."""

    def __call__(self, *groups: Sequence[str]) -> list[list[str]]:
        """The lines of each group."""
        ...


def score(references_path: Path, answers_path: Path) -> dict[str, float]:
    """``CIDEr``, ``BLEU_1`` to ``BLEU_4`` and ``ROUGE_L`` over all images, x100."""
    return score_and_marks(references_path, answers_path)[0]


def marks(references_path: Path, answers_path: Path) -> dict[ImageId, dict[str, float]]:
    """``CIDEr`` and ``ROUGE_L`` of each image, x100, by image id; the overall scores are their means."""
    return score_and_marks(references_path, answers_path)[1]


def score_and_marks(
    references_path: Path, answers_path: Path, tokenizer: Tokenizer | None = None
) -> tuple[dict[str, float], dict[ImageId, dict[str, float]]]:
    """What :func:`score` and :func:`marks` give, for the cost of one."""
    references = read_references(references_path)
    answers = read_answers(answers_path)
    check_same_ids(references, answers, "image_id", asked=references_path, path=answers_path)
    return score_captions(references, answers, tokenizer)


def score_captions(
    references: Mapping[Image, Sequence[str]], answers: Mapping[Image, str], tokenizer: Tokenizer | None = None
) -> tuple[dict[str, float], dict[Image, dict[str, float]]]:
    """Scores of untokenized captions over all images, and of each image; both x100.

    ``references`` holds at least one caption per image, ``answers`` one. ``tokenizer`` stands in for
    :func:`tokenize`, for who scores many models and has had all their captions tokenized at once.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.rouge.rouge import Rouge

    images = list(references)
    human_lines, model_lines = (tokenizer or tokenize)(*caption_groups(references, answers))
    lines = iter(human_lines)
    human = {image: [next(lines) for _ in references[image]] for image in images}
    model = {image: [line] for image, line in zip(images, model_lines, strict=True)}

    bleu, _ = Bleu(4).compute_score(human, model, verbose=0)
    rouge, rouge_by_image = Rouge().compute_score(human, model)
    cider, cider_by_image = _cider(human, model)
    scores = {"CIDEr": cider, **{f"BLEU_{n}": value for n, value in enumerate(bleu, 1)}, "ROUGE_L": rouge}
    by_image = {
        image: {"CIDEr": 100 * float(cider_by_image[place]), "ROUGE_L": 100 * float(rouge_by_image[place])}
        for place, image in enumerate(images)
    }
    return {name: 100 * float(value) for name, value in scores.items()}, by_image


def caption_groups(
    references: Mapping[Image, Sequence[str]], answers: Mapping[Image, str]
) -> tuple[list[str], list[str]]:
    """What :func:`score_captions` has tokenized: all references, image by image, and the answers."""
    return [caption for captions in references.values() for caption in captions], [answers[i] for i in references]


def tokenize(*groups: Sequence[str]) -> list[list[str]]:
    """The captions of each group, in lower case without punctuation, as pycocoevalcap's PTBTokenizer does it.

    No group may be empty. The jar is that package's own, called with its options, but on files in a folder of
    our own (the package writes beside its code, which an installation may forbid) and once for all groups.
    Each group is a file of its own, for the tokenizer looks beyond the end of a line, but not of a file.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).resolve().parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    with TemporaryDirectory(prefix="lntune-captions-") as folder:
        names = [f"group{number}" for number in range(len(groups))]
        for name, captions in zip(names, groups, strict=True):
            text = "\n".join(caption.translate(_LINE_BREAKS) for caption in captions)
            Path(folder, name).write_bytes(text.encode("utf-8", errors="replace"))
        _run_tokenizer(jar, Path(folder), names)
        outputs = [Path(folder, f"{name}.tokens").read_bytes().decode("utf-8").split("\n") for name in names]

    for lines, captions in zip(outputs, groups, strict=True):
        if len(lines) != len(captions):
            raise UserError(f"the caption tokenizer made {len(lines)} lines of {len(captions)} captions")
    marks = frozenset(ptbtokenizer.PUNCTUATIONS)
    return [
        [" ".join(word for word in line.rstrip().split(" ") if word not in marks) for line in lines]
        for lines in outputs
    ]


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


def _cider(human: Mapping[Image, list[str]], model: Mapping[Image, list[str]]) -> tuple[float, Sequence[float]]:
    """pycocoevalcap's CIDEr; 0 where no reference has a word, on which that code stops."""
    from pycocoevalcap.cider.cider import Cider

    if not any(caption for captions in human.values() for caption in captions):
        return 0.0, [0.0] * len(human)
    overall, by_image = Cider().compute_score(human, model)
    return overall, by_image


def _run_tokenizer(jar: Path, folder: Path, names: Sequence[str]) -> None:
    """Tokenizes ``folder/NAME`` into ``folder/NAME.tokens`` for every name, in one run of Java."""
    Path(folder, "list").write_text("".join(f"{name} {name}.tokens\n" for name in names), encoding="utf-8")
    tokenizer = ("-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
    command = ["java", *_JVM_OPTIONS, *tokenizer, "-ioFileList", "list"]
    with java_first_on_path():
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"the caption tokenizer {jar.name} ended with exit code {done.returncode}: {last}")


def _parse_image(record: object) -> ImageId:
    return _id(record, "id")


def _id(record: object, key: str) -> ImageId:
    """COCO numbers its images; other sets name them."""
    if isinstance(record, dict) and isinstance(record.get(key), str):
        return field(record, key, str)
    return field(record, key, int)


def _parse_annotation(record: object) -> tuple[ImageId, ImageId, str]:
    return _id(record, "id"), _id(record, "image_id"), field(record, "caption", str)


def _parse_answer(record: object) -> tuple[ImageId, str]:
    return _id(record, "image_id"), field(record, "caption", str)
