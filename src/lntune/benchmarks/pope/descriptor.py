"""POPE: is there such a thing in the image? Three files, which differ in what is asked for."""

from collections.abc import Mapping
from pathlib import Path

from lntune.benchmarks.pope.questions import KINDS, answer_file_of, file_of, read_questions
from lntune.benchmarks.registry import SUBSET, Benchmark, Examples, Scorer, Stage


def _right(folder: Path) -> Mapping[str, list[str]]:
    return {
        f"{kind}/{one.question_id}": [one.label] for kind in KINDS for one in read_questions(folder / file_of(kind))
    }


BENCHMARKS = (
    Benchmark(
        name="pope",
        column="POPE",
        questions=Stage("questions-pope", "lntune.benchmarks.pope.questions", "{questions:,} questions"),
        score=Stage("score-pope", "lntune.benchmarks.pope.score"),
        parts={kind: (kind, "accuracy") for kind in KINDS},
        decimals=1,
        measure="accuracy (%), sum of the three kinds",
        meaning="accuracy on popular/random/adversarial",
        size=(9_000, 500),
        examples=Examples(_right, kinds=lambda folder: {id: id.partition("/")[0] for id in _right(folder)}),
        protocol="pope",
        drawn=("pope", "coco"),
        answer_files=lambda options: tuple(map(answer_file_of, KINDS)),
        scorer=Scorer(
            "pope",
            "POPE: accuracy, precision, recall, f1 and yes_ratio in percent, and TP, FP, TN, FN.",
            {
                "questions": "JSON lines {question_id, image, text, label}.",
                "answers": "JSON lines {question, answer} in the same order, or with question_id; or LLaVA's.",
            },
            SUBSET,
        ),
    ),
)
