"""MME: yes/no questions in fourteen subtasks, two to an image."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, field_validator

from lntune.benchmarks.mme.release import ALL
from lntune.benchmarks.official_files import read_lines
from lntune.benchmarks.registry import Benchmark, Examples, Scorer, Stage
from lntune.config.mistakes import unknown
from lntune.config.protocol import Prompting


class Options(Prompting):
    """``subtasks`` are those that are asked."""

    subtasks: tuple[str, ...] = Field(min_length=1, strict=False)

    @field_validator("subtasks")
    @classmethod
    def _are_subtasks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for place, name in enumerate(names):
            if name not in ALL:
                raise ValueError(unknown(name, ALL, "MME subtask"))
            if name in names[:place]:
                raise ValueError(f"{name!r} is given twice; remove one")
        return names


def _right(folder: Path) -> Mapping[str, list[str]]:
    return {
        f"{path.stem}/{number}": [line.split("\t")[2]]
        for path in folder.glob("*.txt")
        for number, line in enumerate(read_lines(path))
    }


BENCHMARKS = (
    Benchmark(
        name="mme",
        column="MME",
        questions=Stage("questions-mme", "lntune.benchmarks.mme.questions", "{questions:,} questions"),
        score=Stage("score-mme", "lntune.benchmarks.mme.score"),
        parts={"perception": ("perception",), "cognition": ("cognition",)},
        decimals=1,
        measure="perception + cognition",
        meaning="perception/cognition",
        size=(2_374, 1_187),
        examples=Examples(_right, kinds=lambda folder: {id: id.partition("/")[0] for id in _right(folder)}),
        protocol="mme",
        options=Options,
        question_settings=lambda options, seed, split: {"subtasks": options.subtasks},
        score_settings=lambda options: {"subtasks": options.subtasks},
        drawn=("mme",),
        answer_files=lambda options: tuple(f"{subtask}.txt" for subtask in options.subtasks),
        scorer=Scorer(
            "mme",
            "MME: perception, cognition, and acc, acc_plus and score of each subtask.",
            {"folder": "Folder of official <subtask>.txt files."},
            {"subtasks": (str, ",".join(ALL), "Names of the subtasks to score, with commas between them.")},
        ),
    ),
)
