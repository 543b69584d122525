"""VQAv2's accuracy of 214,354 questions, beside the official evaluation. About five minutes, most of them the rival's.

Both sides read the three JSON files anew in every round. The files are made from a seed, in the official formats.
"""

import gc
import json
import random
from itertools import accumulate
from pathlib import Path
from typing import Any

from lntune.benchmarks.vqav2 import score as vqav2_score
from races.official_vqa import Evaluation, Set
from races.rounds import Row, Say, clocked, in_turn, spread

VERSIONS = ()

QUESTIONS = 214_354
IMAGES = 40_504
HUMANS = 10
SEED = 0
UNANIMOUS = 0.35
RIGHT = 0.6
_KINDS = (
    "is the",
    "is this",
    "how many",
    "what",
    "what color is the",
    "what is the",
    "where is the",
    "none of the above",
)
_THINGS = (
    "dog",
    "cat",
    "man",
    "tree",
    "bus",
    "red",
    "blue",
    "tennis",
    "kitchen",
    "left",
    "pizza",
    "beach",
    "t-shirt",
    "wii",
)
_FORMS = ("{}", "{}", "{}", "{}", "{} and {}", "the {}", "{}.", "{}, {}", "{} {}", "{}/{}", "a {}", "{}'s {}")
_COUNTS = ("0", "1", "2", "3", "4", "two", "1,000", "many", "10:10", "none", "5.5")


def rows(work: Path, say: Say) -> list[Row]:
    """Write the files into ``work`` (180 MB), and score them."""
    say("vqav2: writing the files")
    paths = make(work, QUESTIONS)
    found: dict[str, Any] = {}

    def official() -> None:
        truth = Set.read(paths[1], paths[0])
        evaluation = Evaluation(truth, truth.with_answers(paths[2], paths[0]))
        evaluation.evaluate()
        found["official"] = evaluation.scores, evaluation.per_question

    def ours() -> None:
        annotations, answers = vqav2_score.read(*paths)
        accuracies = vqav2_score.question_accuracies(annotations, answers)
        found["ours"] = vqav2_score.summarise(annotations, accuracies), accuracies

    name = f"VQAv2: {QUESTIONS:,} questions, files to scores"
    rounds = in_turn(name, tidied(official), tidied(ours), say)
    check(found["official"], found["ours"])
    gc.disable()
    reading = [tidied(lambda: [json.loads(path.read_bytes()) for path in paths])() for _ in range(3)]
    gc.enable()
    return [
        Row(
            work=name, rival="the official evaluation (vqa.py, vqaEval.py a013f00)", unit="s", target=5,
            limit=f"reading the JSON: {spread(reading).median:.2g} s by json.loads, without looking for garbage",
            equal="all scores, and every question's accuracy to the two places that the official code gives", **rounds,
        )
    ]  # fmt: skip


def tidied(work: Any) -> Any:
    """A contestant that finds no garbage of the round before."""
    timed = clocked(work)

    def collect_then_work() -> float:
        gc.collect()
        return timed()

    return collect_then_work


def check(official: tuple[Any, dict[int, float]], ours: tuple[Any, dict[int, float]]) -> None:
    """Hold the last round's results against each other."""
    assert official[0] == ours[0], "scores differ"
    assert official[1] == {id: round(100 * accuracy, 2) for id, accuracy in ours[1].items()}, "accuracies differ"


def make(folder: Path, number: int) -> tuple[Path, Path, Path]:
    """Write questions, annotations and a model's answers; return their paths."""
    rng = random.Random(SEED)
    said = _answers(rng)
    questions, annotations, answers = [], [], []
    for place in range(number):
        image = place * IMAGES // number
        id = image * 1000 + place % 1000
        question = " ".join(rng.choices(_THINGS, k=4)).capitalize() + "?"
        kind, humans = _humans(rng, said)
        records = [
            {"answer": answer, "answer_confidence": rng.choice(("yes", "yes", "maybe", "no")), "answer_id": n}
            for n, answer in enumerate(humans, 1)
        ]
        questions.append({"image_id": image, "question": question, "question_id": id})
        annotations.append({
            "question_type": rng.choice(_KINDS), "multiple_choice_answer": max(humans, key=humans.count),
            "answers": records, "image_id": image, "answer_type": kind, "question_id": id,
        })  # fmt: skip
        answer = rng.choice(humans) if rng.random() < RIGHT else said(kind)
        answers.append({"question_id": id, "answer": answer})
    about = {
        "info": {"description": "made from a seed"},
        "license": {},
        "data_subtype": "val2014",
        "data_type": "mscoco",
    }
    contents = {"questions": about | {"questions": questions}, "annotations": about | {"annotations": annotations}}
    for name, content in (contents | {"answers": answers}).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / "questions.json", folder / "annotations.json", folder / "answers.json"


def _answers(rng: random.Random) -> Any:
    """What draws an answer of a kind, by Zipf's law from a list of three thousand."""
    names = [f"{thing}{n}" if n else thing for n in range(60) for thing in _THINGS]
    texts = [rng.choice(_FORMS).format(*rng.choices(names, k=2)) for _ in range(3000)]
    weights = list(accumulate(1 / (rank + 5) for rank in range(len(texts))))
    lists = {"yes/no": ("yes", "no", "Yes", "no."), "number": _COUNTS}

    def answer(kind: str) -> str:
        if kind in lists:
            return lists[kind][min(int(rng.expovariate(1.2)), len(lists[kind]) - 1)]
        return rng.choices(texts, cum_weights=weights)[0]

    return answer


def _humans(rng: random.Random, said: Any) -> tuple[str, list[str]]:
    """A kind of question and what ten humans answer: most agree, some do not."""
    (kind,) = rng.choices(("yes/no", "number", "other"), (0.38, 0.12, 0.5))
    usual = said(kind)
    if rng.random() < UNANIMOUS:
        return kind, [usual] * HUMANS
    agree = rng.uniform(0.1, 0.95)
    return kind, [usual if rng.random() < agree else said(kind) for _ in range(HUMANS)]
