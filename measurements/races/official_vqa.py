"""VQAv2's official evaluation as it goes about its work, step by step: what lntune's score is raced against.

A reading of vqa.py and vqaEval.py (VQA, revision a013f00) in words of our own: the same files into the same indexes,
the same loops in the same order, with the same repeated work, but for the progress bar. The table of contractions is
lntune's, which tests hold against what the official code made of words.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

from lntune.benchmarks.vqav2.score import CONTRACTIONS

_MARKS = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]
_DIGITS = re.compile(r"(\d)(\,)(\d)")
_POINT = re.compile(r"(?!<=\d)(\.)(?!\d)")
_COUNTED = ["none", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


class Set:
    """Questions and annotations with their indexes: annotations by image and by question, questions by question."""

    def __init__(self, annotations: Any, questions: Any) -> None:
        self.annotations, self.questions = annotations, questions
        records = annotations["annotations"]
        self.by_image: dict[int, list[Any]] = {record["image_id"]: [] for record in records}
        self.by_question: dict[int, Any] = {record["question_id"]: [] for record in records}
        self.asked: dict[int, Any] = {record["question_id"]: [] for record in records}
        for record in records:
            self.by_image[record["image_id"]] += [record]
            self.by_question[record["question_id"]] = record
        for record in questions["questions"]:
            self.asked[record["question_id"]] = record

    @classmethod
    def read(cls, annotations: Path, questions: Path) -> "Set":
        """From the two official files."""
        with annotations.open(encoding="utf-8") as file:
            known = json.load(file)
        with questions.open(encoding="utf-8") as file:
            return cls(known, json.load(file))

    def with_answers(self, answers: Path, questions: Path) -> "Set":
        """The same questions with a model's answers in the place of the annotations."""
        with questions.open(encoding="utf-8") as file:
            asked = json.load(file)
        about = {
            key: copy.deepcopy(asked.get(key)) for key in ("info", "task_type", "data_type", "data_subtype", "license")
        }
        with answers.open(encoding="utf-8") as file:
            records = json.load(file)
        assert isinstance(records, list)
        assert {record["question_id"] for record in records} == set(self.by_question)
        for record in records:
            known = self.by_question[record["question_id"]]
            record["image_id"] = known["image_id"]
            record["question_type"] = known["question_type"]
            record["answer_type"] = known["answer_type"]
        return Set({**about, "annotations": records}, asked)


class Evaluation:
    """Accuracies, in percent to ``places``: of all, of each question, question type and answer type."""

    def __init__(self, truth: Set, answered: Set, places: int = 2) -> None:
        self._truth, self._answered, self._places = truth, answered, places
        self._numbers = {word: str(max(0, place - 1)) for place, word in enumerate(_COUNTED)}
        self.per_question: dict[int, float] = {}
        self.scores: dict[str, Any] = {}

    def evaluate(self) -> None:
        """Judge every question, and sum up."""
        ids = list(self._truth.by_question)
        truth = {id: self._truth.by_question[id] for id in ids}
        answered = {id: self._answered.by_question[id] for id in ids}
        everything: list[float] = []
        by_question_type: dict[str, list[float]] = {}
        by_answer_type: dict[str, list[float]] = {}
        for id in ids:
            accuracy = self._accuracy(truth[id]["answers"], answered[id]["answer"])
            everything.append(accuracy)
            by_question_type.setdefault(truth[id]["question_type"], []).append(accuracy)
            by_answer_type.setdefault(truth[id]["answer_type"], []).append(accuracy)
            self.per_question[id] = round(100 * accuracy, self._places)
        self.scores = {
            "overall": self._mean(everything),
            "per_question_type": {name: self._mean(found) for name, found in by_question_type.items()},
            "per_answer_type": {name: self._mean(found) for name, found in by_answer_type.items()},
        }

    def _accuracy(self, humans: list[Any], answer: str) -> float:
        for human in humans:
            human["answer"] = human["answer"].replace("\n", " ").replace("\t", " ").strip()
        answer = answer.replace("\n", " ").replace("\t", " ").strip()
        if len({human["answer"] for human in humans}) > 1:
            for human in humans:
                human["answer"] = self._words(self._marks(human["answer"]))
            answer = self._words(self._marks(answer))
        found = []
        for one in humans:
            others = [human for human in humans if human != one]
            matching = [human for human in others if human["answer"] == answer]
            found.append(min(1, float(len(matching)) / 3))
        return float(sum(found)) / len(found)

    def _marks(self, text: str) -> str:
        kept = text
        for mark in _MARKS:
            if mark + " " in text or " " + mark in text or re.search(_DIGITS, text) is not None:
                kept = kept.replace(mark, "")
            else:
                kept = kept.replace(mark, " ")
        return _POINT.sub("", kept, count=int(re.UNICODE))

    def _words(self, text: str) -> str:
        kept = []
        for word in text.lower().split():
            number = self._numbers.setdefault(word, word)
            if number not in ["a", "an", "the"]:
                kept.append(number)
        for place, word in enumerate(kept):
            if word in CONTRACTIONS:
                kept[place] = CONTRACTIONS[word]
        return " ".join(kept)

    def _mean(self, found: list[float]) -> float:
        return round(100 * float(sum(found)) / len(found), self._places)
