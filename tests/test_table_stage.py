"""The table stage: what the CSV and the Markdown say, and how cells are written."""

import csv
import json
from pathlib import Path

from lntune.benchmarks import pope_questions
from lntune.report.cells import cell_of
from lntune.report.markdown import emphasised
from stage_runs import Folders, read, run


def table_inputs(folder: Path) -> Folders:
    """Two models by three methods: the selections of all, and their scores on MME and VQAv2."""
    selections, scores = [], []
    for number in range(6):
        selection = folder / "select" / f"s{number}"
        selection.mkdir(parents=True)
        (selection / "selection.json").write_text(json.dumps({"learning_rate": 10.0 ** -(number % 3 + 1)}))
        selections.append(selection)
        mme = {"perception": 1000.0 + number, "cognition": 300.0 - number}
        for kind, values in (
            ("score-mme", mme | {"intervals": {"perception": [900.0, 1100.0], "cognition": None}}),
            ("score-vqav2", {"overall": 50.0 + number // 2, "intervals": {"overall": [49.123, 51.0]}}),
        ):
            score = folder / kind / f"{number}"
            score.mkdir(parents=True)
            (score / "scores.json").write_text(json.dumps(values))
            scores.append(score)
    return {"selections": tuple(selections), "scores": tuple(scores)}


TABLE = {
    "name": "table9",
    "title": "Table 9: a trial",
    "note": "A note.",
    "columns": ("MME", "VQAv2"),
    "rows": tuple(
        {"group": group, "title": title, "selection": 3 * g + m, "scores": (6 * g + 2 * m, 6 * g + 2 * m + 1)}
        for g, group in enumerate(("MM-A", "MM-B"))
        for m, title in enumerate(("Finetune", "LoRA", "LayerNorm"))
    ),
    "scale": "demo",
    "scale_note": "**This is the demo.**",
    "protocol": "modern",
    "split": "test",
    "intervals": False,
}


def test_a_table_says_what_it_shows(tmp_path: Path) -> None:
    out = tmp_path / "table"
    assert run(out, "table", TABLE, table_inputs(tmp_path)) == {"rows": 6, "cells": 12}
    with (out / "table9.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "method", "MME", "VQAv2", "learning_rate", "selected_on", "protocol", "scale"]
    assert rows[0] == {
        "model": "MM-A", "method": "Finetune", "MME": "1000.0/300.0", "VQAv2": "50.00", "learning_rate": "0.1",
        "selected_on": "Flickr30k test", "protocol": "modern", "scale": "demo",
    }  # fmt: skip
    assert [row["model"] for row in rows] == ["MM-A"] * 3 + ["MM-B"] * 3
    assert all(value for row in rows for value in row.values())
    cells = read(out / "cells.json")
    assert cells[1] == {"row": "MM-A: Finetune", "column": "VQAv2", "value": "50.00", "score": 1, "selection": 0}
    shown = [(f"{row['model']}: {row['method']}", name, row[name]) for row in rows for name in ("MME", "VQAv2")]
    assert shown == [(cell["row"], cell["column"], cell["value"]) for cell in cells]


def test_the_markdown_marks_the_best_and_the_second_within_a_group(tmp_path: Path) -> None:
    out = tmp_path / "table"
    run(out, "table", TABLE, table_inputs(tmp_path))
    text = (out / "table9.md").read_text()
    lines = text.splitlines()
    assert lines[:5] == ["# Table 9: a trial", "", "**This is the demo.**", "", "A note."]
    assert "Scale: demo. Protocol: modern." in text and "the choice leaks" in text
    assert lines[lines.index("| Method | MME | VQAv2 |") :] == [
        "| Method | MME | VQAv2 |",
        "| --- | --- | --- |",
        "| *MM-A* | | |",
        "| Finetune | 1000.0/**300.0** | 50.00 |",
        "| LoRA | <u>1001.0</u>/<u>299.0</u> | 50.00 |",
        "| LayerNorm | **1002.0**/298.0 | **51.00** |",
        "| *MM-B* | | |",
        "| Finetune | 1003.0/**297.0** | 51.00 |",
        "| LoRA | <u>1004.0</u>/<u>296.0</u> | **52.00** |",
        "| LayerNorm | **1005.0**/295.0 | **52.00** |",
    ]


def test_a_table_on_the_validation_split_with_intervals(tmp_path: Path) -> None:
    settings = TABLE | {"split": "validation", "intervals": True, "scale_note": ""}
    run(tmp_path / "table", "table", settings, table_inputs(tmp_path))
    with (tmp_path / "table" / "table9.csv").open() as file:
        row = next(csv.DictReader(file))
    assert list(row)[2:6] == ["MME", "MME 95% interval", "VQAv2", "VQAv2 95% interval"]
    assert (row["MME 95% interval"], row["VQAv2 95% interval"]) == ("900.0..1100.0/-", "49.12..51.00")
    assert row["selected_on"] == "Flickr30k validation"
    assert "the choice leaks" not in (tmp_path / "table" / "table9.md").read_text()
    again = tmp_path / "again"
    run(again, "table", settings, table_inputs(tmp_path / "copy"))
    for name in ("table9.csv", "table9.md"):
        assert (again / name).read_bytes() == (tmp_path / "table" / name).read_bytes()


def test_cells_are_written_as_the_paper_writes_them() -> None:
    kinds = {kind: {"accuracy": accuracy} for kind, accuracy in (("random", 88.24), ("popular", 80.0))}
    pope = {**kinds, "adversarial": {"accuracy": 71.96}, "intervals": dict.fromkeys(pope_questions.KINDS, (1, 2))}
    cell = cell_of("POPE", pope)
    assert (cell.text, cell.interval) == ("80.0/88.2/72.0", "1.0..2.0/1.0..2.0/1.0..2.0")
    assert cell_of("Flickr30k", {"CIDEr": 23.456, "intervals": {"CIDEr": [20, 25]}}).text == "23.46"
    others = [cell_of("VQAv2", {"overall": value, "intervals": {"overall": [0, 1]}}) for value in (1.001, 1.004, 1.0)]
    assert emphasised(others) == ["1.00", "1.00", "1.00"], "what is written alike is not told apart"
