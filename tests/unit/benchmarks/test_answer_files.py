"""``lntune score`` with other people's answers: what slipped is refused, what other tools write is read."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lntune.cli import score_app
from lntune.errors import UserError

THINGS = ["dog", "cat", "hot dog", "tree"]
LABELS = ["yes", "no", "no", "yes"]
LLAVA = "\nAnswer the question using a single word or phrase."
QUESTIONS = [
    {
        "question_id": n,
        "image": f"{n:012d}.jpg",
        "text": f"Is there a {thing} in the image?",
        "label": label,
    }
    for n, (thing, label) in enumerate(zip(THINGS, LABELS, strict=True), 1)
]
TEXTS = [str(one["text"]) for one in QUESTIONS]
Record = dict[str, Any]


def lines(records: Sequence[object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def score(*arguments: object) -> Any:
    result = CliRunner().invoke(score_app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def pope(
    folder: Path, answers: Sequence[Record] | bytes, *options: str, questions: Sequence[Record] = QUESTIONS
) -> Any:
    (folder / "q.json").write_text(lines(questions))
    (folder / "a.jsonl").write_bytes(answers if isinstance(answers, bytes) else lines(answers).encode())
    return score("pope", folder / "q.json", folder / "a.jsonl", *options)


def refused(make: Callable[[], object]) -> str:
    with pytest.raises(UserError) as raised:
        make()
    return str(raised.value)


FORMS: dict[str, Callable[[int], Record]] = {
    "official": lambda n: {"question": TEXTS[n], "answer": LABELS[n]},
    "an instruction around": lambda n: {"question": f"<image>\n{TEXTS[n]} Yes or no? ASSISTANT:", "answer": LABELS[n]},
    "LLaVA": lambda n: {
        "question_id": n + 1, "prompt": TEXTS[n] + LLAVA, "text": LABELS[n], "answer_id": "x", "model_id": "m"
    },
    "LLaVA, numbered over all kinds": lambda n: {"question_id": n + 9, "prompt": TEXTS[n] + LLAVA, "text": LABELS[n]},
    "VLMEvalKit": lambda n: {"index": n, "question": TEXTS[n], "answer": "yes", "prediction": LABELS[n]},
    "lmms-eval": lambda n: {
        "doc_id": n, "target": "yes", "filtered_resps": [LABELS[n]],
        "doc": {"question_id": str(n + 1), "question": TEXTS[n], "answer": "yes", "image_source": f"val/{n + 1:012d}"},
    },
    "ids as strings": lambda n: {"question_id": str(n + 1), "answer": LABELS[n]},
    "ids as floats": lambda n: {"question_id": n + 1.0, "answer": LABELS[n]},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_other_tools_are_read(tmp_path: Path, form: str) -> None:
    records = [FORMS[form](n) for n in range(4)]
    assert pope(tmp_path, records)["accuracy"] == 100
    assert pope(tmp_path, json.dumps(records).encode())["accuracy"] == 100  # a list instead of lines


@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith("ids")])
def test_answers_to_the_next_question_are_refused(tmp_path: Path, form: str) -> None:
    records = [FORMS[form](n) for n in range(4)]
    slipped = [one | FORMS[form]((n + 1) % 4) for n, one in enumerate(records)]
    for one, right in zip(slipped, records, strict=True):  # each still says that it is the answer to its own question
        one.update({key: right[key] for key in ("question_id",) if key in right})
        if "doc" in one:
            one["doc"] = one["doc"] | {"question_id": right["doc"]["question_id"]}
    line = refused(lambda: pope(tmp_path, slipped))
    assert line.startswith(f"{tmp_path}/a.jsonl: ")
    if form != "LLaVA, numbered over all kinds":
        assert "'Is there a dog in the image?' of " in line and "q.json; " in line


def test_ids_say_what_an_answer_is_to_and_order_does_not(tmp_path: Path) -> None:
    assert pope(tmp_path, [FORMS["LLaVA"](n) for n in (2, 0, 3, 1)])["accuracy"] == 100
    line = refused(lambda: pope(tmp_path, [FORMS["official"](n) for n in (2, 0, 3, 1)]))
    assert line.endswith("the order must be the same")


def test_an_answer_about_another_image_is_refused(tmp_path: Path) -> None:
    same = [one | {"text": "Is there a dog?"} for one in QUESTIONS]
    said = [{"question": "Is there a dog?", "image": f"val2014/{one['image']}", "answer": "yes"} for one in QUESTIONS]
    assert pope(tmp_path, said, questions=same)["accuracy"] == 50
    line = refused(lambda: pope(tmp_path, [*said[1:], said[0]], questions=same))
    assert "answer 1 is about 'val2014/000000000002.jpg', not about '000000000001.jpg'" in line


def test_llavas_one_file_for_all_kinds_is_read(tmp_path: Path) -> None:
    others = [{"question_id": n, "prompt": f"Is there a bus {n}?", "text": "yes"} for n in range(100, 107)]
    mine = [FORMS["LLaVA, numbered over all kinds"](n) for n in range(4)]
    assert pope(tmp_path, [*others, *mine, *others[:3]][:-3])["accuracy"] == 100
    line = refused(lambda: pope(tmp_path, [*others, *mine[1:]]))
    assert "question_id 100 (and 9 more) is not in " in line


def test_foreign_ids_without_the_question_are_refused(tmp_path: Path) -> None:
    line = refused(lambda: pope(tmp_path, [{"question_id": n, "answer": "yes"} for n in range(4)]))
    assert "question_id 0 is not in " in line or "no record for question_id 4" in line


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_marks_and_utf_16_are_read(tmp_path: Path, encoding: str) -> None:
    text = lines([FORMS["official"](n) for n in range(4)]).replace("\n", "\r\n")
    assert pope(tmp_path, text.encode(encoding))["accuracy"] == 100
    mme = tmp_path / "mme"
    mme.mkdir()
    (mme / "OCR.txt").write_bytes("1.png\tq é\tYes\tyes\r\n1.png\tr\tNo\tno\r\n".encode(encoding))
    assert score("mme", mme, "--subtasks", "OCR")["perception"] == 200


def test_a_subset_is_scored_by_an_option_and_says_its_size(tmp_path: Path) -> None:
    two = [FORMS["LLaVA"](n) for n in (3, 0)]
    line = refused(lambda: pope(tmp_path, two))
    assert line.endswith(
        "no record for question_id 2 (and 1 more) of " + f"{tmp_path}/q.json; --subset scores the others alone"
    )
    found = pope(tmp_path, two, "--subset")
    assert found["subset"] == {"answered": 2, "of": 4} and found["TP"] == 2 and found["accuracy"] == 100
    assert "question_id 9 is not in " in refused(lambda: pope(tmp_path, [two[0] | {"question_id": 9}], "--subset"))
    assert "0 answers to the 4 questions" in refused(lambda: pope(tmp_path, [], "--subset"))


def test_vqav2_and_captions_alike(tmp_path: Path) -> None:
    asked = [{"question_id": n, "image_id": n, "question": text} for n, text in enumerate(TEXTS)]
    humans = [{"answer": "red", "answer_id": n} for n in range(10)]
    annotated = [{"question_id": n, "question_type": "is", "answer_type": "other", "answers": humans} for n in range(4)]
    q, a, r = tmp_path / "q.json", tmp_path / "a.json", tmp_path / "r.json"
    q.write_text(json.dumps({"questions": asked}))
    a.write_text(json.dumps({"annotations": annotated}))
    said = [{"question_id": n, "prompt": text + LLAVA, "text": "red"} for n, text in enumerate(TEXTS)]
    r.write_text(lines(said))
    assert score("vqav2", q, a, r)["overall"] == 100
    r.write_text(lines(said[:1]))
    assert score("vqav2", q, a, r, "--subset")["subset"] == {"answered": 1, "of": 4}
    r.write_text(lines([one | {"question_id": (one["question_id"] + 1) % 4} for one in said]))
    assert "the answer to question_id 0 is to 'Is there a tree" in refused(lambda: score("vqav2", q, a, r))
    images, captions = [{"id": n} for n in range(3)], [{"id": n, "image_id": n, "caption": "a dog"} for n in range(3)]
    q.write_text(json.dumps({"images": images, "annotations": captions}))
    r.write_text(json.dumps([{"image_id": "000000000001", "caption": "a dog"}, {"image_id": 2.0, "caption": "a cat"}]))
    assert score("captions", q, r, "--subset")["subset"] == {"answered": 2, "of": 3}
    assert "no record for image_id 0 of " in refused(lambda: score("captions", q, r))
