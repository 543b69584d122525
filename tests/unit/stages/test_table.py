"""The table stage: what it writes as CSV, Markdown and LaTeX of results, and where each cell comes from."""

import csv
import json
from pathlib import Path
from typing import Any

from lntune.report.cells import cell_of
from score_formats import format_of, formats_of
from stage_runs import Folders, read, run

METHODS = ("Finetune", "LoRA", "LayerNorm")


def _write(folder: Path, files: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    for name, document in files.items():
        (folder / name).write_text(json.dumps(document))
    return folder


def table_inputs(folder: Path) -> Folders:
    """Two models by three methods: the selections of all, and their scores on MME and VQAv2."""
    selections, scores = [], []
    for number in range(6):
        rate = {"learning_rate": 10.0 ** -(number % 3 + 1)}
        selections.append(_write(folder / "select" / f"s{number}", {"selection.json": rate}))
        accuracy = 50.0 + number // 2
        mme = {"perception": 1000.0 + number, "cognition": 300.0 - number}
        right = {"parts": {"perception": {"color": {"0": [200.0]}}, "cognition": {}}}
        scores.append(_write(folder / "score-mme" / f"{number}", {"scores.json": mme, "per_item_scores.json": right}))
        items = {"parts": {"": {"VQAv2": {"first": [accuracy, accuracy], "second": [accuracy]}}}}
        vqav2 = {"scores.json": {"overall": accuracy}, "per_item_scores.json": items}
        scores.append(_write(folder / "score-vqav2" / f"{number}", vqav2))
    return {"selections": tuple(selections), "scores": tuple(scores)}


TABLE: dict[str, Any] = {
    "name": "table9",
    "title": "Table 9: a trial",
    "note": "A note.",
    "columns": ("MME", "VQAv2"),
    "rows": tuple(
        {
            "group": group,
            "title": title,
            "learning_rate": None,
            "selections": (3 * g + m,),
            "scores": ((6 * g + 2 * m,), (6 * g + 2 * m + 1,)),
        }
        for g, group in enumerate(("MM-A", "MM-B"))
        for m, title in enumerate(METHODS)
    ),
    "scale": "demo",
    "scale_note": "**This is the demo.**",
    "protocol": "modern",
    "split": "test",
    "seeds": (0,),
    "tokens": "all",
    "formats": formats_of("MME", "VQAv2"),
    "layout": "groups",
    "emphasis": "best-and-second",
    "paired_with": None,
    "intervals": False,
    "literature": (),
}

COLUMNS = [
    "model", "method", "MME", "MME 95% interval", "VQAv2", "VQAv2 95% interval", "learning_rate", "selected_on",
    "protocol", "scale", "source",
]  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_says_what_it_shows(tmp_path: Path) -> None:
    out = tmp_path / "table"
    assert run(out, "table", TABLE, table_inputs(tmp_path)) == {"rows": 6, "cells": 12}
    rows = _rows(out / "table9.csv")
    assert list(rows[0]) == COLUMNS
    assert rows[0] == {
        "model": "MM-A", "method": "Finetune", "MME": "1000.0/300.0", "MME 95% interval": "200.0..200.0/-",
        "VQAv2": "50.00", "VQAv2 95% interval": "50.00..50.00", "learning_rate": "0.1",
        "selected_on": "Flickr30k test", "protocol": "modern", "scale": "demo", "source": "ours",
    }  # fmt: skip
    assert [row["model"] for row in rows] == ["MM-A"] * 3 + ["MM-B"] * 3
    assert all(value for row in rows for value in row.values())
    cells = read(out / "cells.json")
    assert cells[1] == {
        "row": "MM-A: Finetune",
        "column": "VQAv2",
        "value": "50.00",
        "parts": [""],
        "scores": [1],
        "selections": [0],
    }
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


def test_the_latex_is_the_same_table(tmp_path: Path) -> None:
    out = tmp_path / "table"
    run(out, "table", TABLE, table_inputs(tmp_path))
    lines = (out / "table9.tex").read_text().splitlines()
    assert lines[0] == "% Table 9: a trial (table9). Scale: demo. Protocol: modern."
    assert lines[1].startswith(r"% Needs \usepackage[T1]{fontenc}") and r"\usepackage{booktabs}" in lines[1]
    assert lines[2] == r"\begin{table}" and lines[-1] == r"\end{table}"
    assert r"\caption{A trial}" in lines and r"\label{tab:table9}" in lines
    assert lines[lines.index(r"\toprule") : lines.index(r"\bottomrule") + 1] == [
        r"\toprule",
        r"Method & MME & VQAv2 \\",
        r"\midrule",
        r"\multicolumn{3}{c}{\textit{MM-A}} \\",
        r"\addlinespace[2pt]",
        r"Finetune & 1000.0/\textbf{300.0} & 50.00 \\",
        r"LoRA & \underline{1001.0}/\underline{299.0} & 50.00 \\",
        r"LayerNorm & \textbf{1002.0}/298.0 & \textbf{51.00} \\",
        r"\midrule",
        r"\multicolumn{3}{c}{\textit{MM-B}} \\",
        r"\addlinespace[2pt]",
        r"Finetune & 1003.0/\textbf{297.0} & 51.00 \\",
        r"LoRA & \underline{1004.0}/\underline{296.0} & \textbf{52.00} \\",
        r"LayerNorm & \textbf{1005.0}/295.0 & \textbf{52.00} \\",
        r"\bottomrule",
    ]
    assert r"\textbf{This is the demo.}\par" in lines and r"A note.\par" in lines


def test_a_table_on_the_validation_split_with_intervals(tmp_path: Path) -> None:
    settings = TABLE | {"split": "validation", "intervals": True, "emphasis": "best", "scale_note": ""}
    out = tmp_path / "table"
    run(out, "table", settings, table_inputs(tmp_path))
    row = _rows(out / "table9.csv")[0]
    assert list(row) == COLUMNS
    assert row["selected_on"] == "Flickr30k validation"
    text = (out / "table9.md").read_text()
    assert "the choice leaks" not in text
    assert "| Finetune | 1000.0 [200.0, 200.0] / **300.0** | 50.00 [50.00, 50.00] |" in text.splitlines()
    assert text.endswith("\n\nIn brackets: bootstrap 95% intervals over what was asked.\n")
    tex = (out / "table9.tex").read_text()
    assert r"Finetune & 1000.0$_{200.0}^{200.0}$/\textbf{300.0} & 50.00$_{50.00}^{50.00}$ \\" in tex
    assert r"bootstrap 95\% intervals over what was asked.\par" in tex
    again = tmp_path / "again"
    run(again, "table", settings, table_inputs(tmp_path / "copy"))
    for name in ("table9.csv", "table9.md", "table9.tex"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_rows_from_the_literature_stand_first_and_are_called_so(tmp_path: Path) -> None:
    literature = ({"group": "Baselines", "title": "MiniGPT4", "cells": ("9999.0/292.1", "-")},)
    out = tmp_path / "table"
    made = run(out, "table", TABLE | {"literature": literature}, table_inputs(tmp_path))
    assert made == {"rows": 7, "cells": 12}, "the cells are those that rest on results of ours"
    rows = _rows(out / "table9.csv")
    assert list(rows[0]) == COLUMNS
    assert {name: text for name, text in rows[0].items() if text} == {
        "model": "Baselines", "method": "MiniGPT4", "MME": "9999.0/292.1", "VQAv2": "-", "source": "literature",
    }  # fmt: skip
    assert [row["source"] for row in rows[1:]] == ["ours"] * 6
    lines = (out / "table9.md").read_text().splitlines()
    first = lines.index("| *Baselines* | | |")
    assert lines[first + 1 : first + 3] == ["| MiniGPT4† | 9999.0/292.1 | - |", "| *MM-A* | | |"]
    assert lines[-1].startswith("† As the paper prints them, taken from the literature") and "not ours" in lines[-1]
    tex = (out / "table9.tex").read_text()
    assert r"MiniGPT4\textsuperscript{\textdagger} & 9999.0/292.1 & - \\" in tex
    assert r"\textsuperscript{\textdagger}~As the paper prints them" in tex


def test_a_column_that_few_rows_have_stands_where_these_have_it(tmp_path: Path) -> None:
    inputs = dict(table_inputs(tmp_path))
    numbers: list[dict[str, Any]] = [{"name": "peak_bytes", "label": "measured", "value": "OOM"}]
    numbers += [{"name": "peak_bytes", "label": "predicted", "value": 8e10}]
    plain = _write(tmp_path / "plain", {"measure.json": {"setup": {"precision": "tf32"}, "numbers": numbers}})
    inputs["scores"] = (*inputs["scores"], plain)
    rows = ({**TABLE["rows"][0], "scores": ((12,), (1,))}, {**TABLE["rows"][1], "scores": ((12,), (3,))})
    out = tmp_path / "table"
    run(out, "table", TABLE | {"columns": ("Mem. (GB)", "VQAv2"), "rows": rows}, inputs)
    found = _rows(out / "table9.csv")
    memory = ["Mem. (GB)", "Mem. (GB) predicted", "Mem. (GB) precision"]
    assert list(found[0])[2:7] == [*memory, "VQAv2", "VQAv2 95% interval"]
    assert [found[0][column] for column in memory] == ["OOM", "80.0", "tf32"]
    assert "| Finetune | OOM | 50.00 |" in (out / "table9.md").read_text().splitlines()


def test_differences_from_the_row_that_others_are_paired_with(tmp_path: Path) -> None:
    out = tmp_path / "table"
    run(
        out,
        "table",
        TABLE | {"paired_with": "LoRA", "columns": ("VQAv2",), "rows": _vqav2_alone()},
        table_inputs(tmp_path),
    )
    found = [(row["VQAv2 minus LoRA"], row["VQAv2 minus LoRA 95% interval"]) for row in _rows(out / "table9.csv")]
    zero, one = ("+0.00", "0.00..0.00"), ("+1.00", "1.00..1.00")
    assert found == [zero, ("", ""), one, ("-1.00", "-1.00..-1.00"), ("", ""), zero]


def _vqav2_alone() -> tuple[dict[str, Any], ...]:
    return tuple(row | {"scores": row["scores"][1:]} for row in TABLE["rows"])


def test_cells_are_written_as_the_paper_writes_them(tmp_path: Path) -> None:
    accuracies = {"random": 88.24, "popular": 80.0, "adversarial": 71.96}
    pope = {
        "scores.json": {kind: {"accuracy": accuracy} for kind, accuracy in accuracies.items()},
        "per_item_scores.json": {"parts": {kind: {kind: {"image": [50.0]}} for kind in accuracies}},
    }
    cell = cell_of("POPE", [_write(tmp_path / "pope", pope)], format_of("POPE"), None)
    assert (cell.text, cell.interval) == ("80.0/88.2/72.0", "50.0..50.0/50.0..50.0/50.0..50.0")
    captions = [
        _write(
            tmp_path / f"captions{seed}",
            {
                "scores.json": {"CIDEr": cider, "followed": followed},
                "per_item_scores.json": {"parts": {"": {"captions": {"image": [cider]}}}},
            },
        )
        for seed, (cider, followed) in enumerate(((23.456, 0.9), (24.456, 0.2)))
    ]
    assert cell_of("Flickr30k", captions[:1], format_of("Flickr30k"), None).text == "23.46"
    assert cell_of("Flickr30k", captions, format_of("Flickr30k"), None).text == "23.96", "the mean of several seeds"
    assert cell_of("Flickr30k", captions[1:], format_of("Flickr30k"), None).text == "-", (
        "too few captions are captions in form"
    )
