"""The benchmarks there are: a folder each, whose ``descriptor.py`` says all that others must know of them.

    by_name()["pope"].column                    # "POPE"
    question_stages()                           # name to stage, of all benchmarks
    for one in benchmarks(): ...

To add a benchmark, add its folder and its line in FOLDERS (docs/adding.md). No stage may import this module or a
descriptor: a new benchmark would rename all results of that stage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import create_model

from lntune.config import Frozen
from lntune.config.protocol import Prompting, ProtocolSettings

FOLDERS = (
    "mme",
    "vqav2",
    "captions",
    "pope",
)


class Stage(NamedTuple):
    """A stage of a benchmark: its name, its module, and what ``lntune trace`` says of a result, from its metrics."""

    name: str
    module: str
    summary: str = ""


class Scorer(NamedTuple):
    """``lntune score COMMAND``: prints what the function ``score`` of the benchmark's score makes of anyone's files.

    It is given the paths of ``arguments``, in their order, and by name the ``options``: type, default, and help.
    """

    command: str
    about: str
    arguments: Mapping[str, str]
    options: Mapping[str, tuple[Any, Any, str]] = {}


SUBSET = {"subset": (bool, False, "Score what is answered alone; the result says how much that is.")}


@dataclass(frozen=True)
class Examples:
    """How ``lntune trace --show`` shows questions.

    ``right`` turns the questions' folder into what is right, by question id: a label, ten humans' answers, references.
    """

    right: Callable[[Path], Mapping[str, Sequence[str]]]
    passed: float | None = 1.0  # the grade from which an answer is right; None where they are only better or worse
    grade: Callable[[Any], float] = float  # a question's score in per_item_scores.json as a number, from 0
    describe: Callable[[Any], str] = lambda score: "right" if score else "WRONG"  # that score in words
    # The questions' folder into the type of each question that has one, by question id.
    kinds: Callable[[Path], Mapping[str, str]] = lambda folder: {}


@dataclass(frozen=True)
class Benchmark:
    """What plan, report, trace and estimate know of a benchmark."""

    name: str  # its key in a scale, and in the names of its results
    column: str  # the title of its column in tables
    questions: Stage
    score: Stage
    parts: Mapping[str, tuple[str, ...]]  # each value of its cell ("": the only one) to its keys in scores.json
    decimals: int  # how many its values are written with
    measure: str  # what bars show: the sum of the values
    meaning: str  # what a cell shows, in the trace
    size: tuple[int, int]  # questions and images at full size
    examples: Examples  # how single questions are shown
    protocol: str  # the key of a protocol's ``benchmarks`` that says how it is asked
    options: type[Prompting] = Prompting  # what stands there
    # The settings of its questions, but for ``broken_share``, and of its score.
    question_settings: Callable[[Any, int, str], dict[str, Any]] = lambda options, seed, split: {}
    score_settings: Callable[[Any], dict[str, Any]] = lambda options: {}
    asked: Callable[[Any], int | None] = lambda options: None  # how many questions the options choose (None: all)
    # What scores.json must have at least (the mean over seeds) for a table to show values.
    least: Callable[[Any], dict[str, float]] = lambda options: {}
    split: bool = False  # whether learning rates can be chosen on a validation split of its own
    references: Stage | None = None  # a stage between, if scores need something made once for all models
    drawn: tuple[str, ...] = ()  # the sets of the demo's world that its sources draw: questions first, images last
    answer_files: Callable[[Any], tuple[str, ...]] = lambda options: ()  # those of its official format
    scorer: Scorer | None = None  # the command that scores files in its official format


@cache
def benchmarks() -> tuple[Benchmark, ...]:
    """All benchmarks, in the order of FOLDERS."""
    descriptors = (import_module(f"lntune.benchmarks.{folder}.descriptor") for folder in FOLDERS)
    return tuple(one for descriptor in descriptors for one in descriptor.BENCHMARKS)


@cache
def by_name() -> dict[str, Benchmark]:
    """All benchmarks, by their key in a scale."""
    return {one.name: one for one in benchmarks()}


@cache
def by_column() -> dict[str, Benchmark]:
    """All benchmarks, by the title of their column."""
    return {one.column: one for one in benchmarks()}


def question_stages() -> dict[str, Stage]:
    """The stages that make questions, by name."""
    return {one.questions.name: one.questions for one in benchmarks()}


def reference_stages() -> dict[str, Stage]:
    """The stages between questions and scores, by name."""
    return {one.references.name: one.references for one in benchmarks() if one.references}


def score_stages() -> dict[str, Stage]:
    """The stages that score answers, by name."""
    return {one.score.name: one.score for one in benchmarks()}


def of_score(stage: str) -> Benchmark | None:
    """A benchmark with this score stage, if there is one; those that share a folder are shown alike."""
    return next((one for one in benchmarks() if one.score.name == stage), None)


def drawn_with() -> dict[str, str]:
    """A set of the demo's world that asks about the images of another, to that other."""
    return {one.drawn[0]: one.drawn[-1] for one in benchmarks() if len(one.drawn) > 1}


@cache
def protocol_settings() -> type[ProtocolSettings]:
    """The model of a protocol's file, in which each benchmark is asked as its descriptor allows."""
    options: dict[str, Any] = {one.protocol: (one.options, ...) for one in benchmarks()}
    asked = create_model("BenchmarkOptions", __base__=Frozen, **options)
    return create_model("Protocol", __base__=ProtocolSettings, benchmarks=(asked, ...))
