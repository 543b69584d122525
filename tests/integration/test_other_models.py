"""Other people's rows: a model of the demo that is published and entered as another's gets the same scores."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import Checkout
from lntune.commands.pin import pin
from lntune.commands.publish import publish
from lntune.commands.trace.cell import trace_cell
from lntune.commands.trace.text import trace_text
from lntune.errors import UserError
from lntune.plan.pending import pending
from lntune.plan.plan import Plan
from lntune.plan.study import Study

pytestmark = pytest.mark.slow

OURS = "LayerNorm-Conv. 20K"
COLUMNS = {"MME": "mme", "MSCOCO": "mscoco"}
TABLE = """\
title: "Others"
columns: [MME, MSCOCO]
intervals: true
llms: [vicuna-7b]
rows:
  - {title: "LayerNorm-Conv. 20K", method: layernorm, data: Conv.20K}
  - {title: Published, model: published}
  - {title: Answers, answers: answers}
"""


@pytest.fixture
def root(copy: Checkout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A finished checkout with one of its models published, its official answers in a folder, and a table of these."""
    monkeypatch.chdir(copy.root)
    publish(Path("."), f"tiny {OURS}", Path("published"))
    pin(Path("."), "published", Path("published"), "a model of the demo", "Apache-2.0", ["README.md"])
    for name in COLUMNS.values():
        stage = "captions" if name == "mscoco" else name
        (found,) = (
            one for one in copy.results(f"score-{stage}") if one.name.startswith(f"vicuna-7b-layernorm-Conv.20K-{name}")
        )
        shutil.copytree(found, Path("answers") / name)
    Path("workflow/report_items/others.yaml").write_text(TABLE, encoding="utf-8")
    yield copy.root


def test_a_published_model_and_official_answers_score_as_ours(root: Path) -> None:
    work = pending(Plan(Study.read(Path("."))), ["tables/others.csv"])
    assert work.jobs() == {
        "fetch": 3, "predict-other": 2, "score-mme": 2, "score-captions": 2, "table": 1, "publish": 1,
    }  # fmt: skip
    announced = Checkout(root).snakemake("-c1", "tables/others.csv", "tables/others.md")
    assert "predict_other" in announced
    with Path("tables/others.csv").open(encoding="utf-8") as file:
        lines = {one["method"]: one for one in csv.DictReader(file)}
    assert [(one["model"], one["source"]) for one in lines.values()] == [
        ("Other models", "others"), ("Other models", "others"), ("MM-VICUNA-7B", "ours"),
    ]  # fmt: skip
    for column in (*COLUMNS, *(f"{column} 95% interval" for column in COLUMNS)):
        assert len({one[column] for one in lines.values()}) == 1 and lines[OURS][column] not in ("", "-"), column
    assert "Other models: released ones, asked through their own processors" in Path("tables/others.md").read_text(
        "utf-8"
    )

    traced = trace_cell(Path("."), "others", "Published", "MSCOCO", show=2)
    text = trace_text(traced)
    assert "predict-other/published-mscoco" in text and "a model of the demo; licence: Apache-2.0" in text
    assert "<image>" in traced["examples"][0]["shown"][0]["prompt"]
    traced = trace_cell(Path("."), "others", "Answers", "MME", show=2)
    text = trace_text(traced)
    assert "answers to MME in its official format, from the folder answers" in text and "existence.txt" in text
    ours = trace_cell(Path("."), "others", OURS, "MME", show=2)["examples"][0]["shown"]
    told = ("id", "answer", "score")
    assert [[one[key] for key in told] for one in traced["examples"][0]["shown"]] == [
        [one[key] for key in told] for one in ours
    ]
    assert ": all right" in Checkout(root).run("lntune", "verify", "tables/others.csv", "--jobs", "1")
    with pytest.raises(UserError, match="no column of others holds answers of a model that was tuned here"):
        publish(Path("."), "others Published", Path("again"))

    # Another answer is another result, and its score alone is made; what is missing is one line.
    answers = json.loads(Path("answers/mscoco/captions.json").read_bytes())
    answers[0]["caption"] = "something else"
    Path("answers/mscoco/captions.json").write_text(json.dumps(answers), encoding="utf-8")
    jobs = pending(Plan(Study.read(Path("."))), ["tables/others.csv"]).jobs()
    assert jobs == {"fetch": 1, "score-captions": 1, "table": 1, "publish": 1}
    Path("answers/mme/OCR.txt").unlink()
    with pytest.raises(UserError, match=r"^answers/mme/OCR\.txt: no such file; a row's answers need it"):
        Plan(Study.read(Path("."))).report_item("others")
