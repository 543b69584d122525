"""The paper's numbers against a second reading of its tables: sums and single values taken from the text."""

import csv
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from checkout import ROOT
from lntune.benchmarks.registry import benchmarks
from lntune.errors import UserError
from lntune.paper.printed import (
    CELLS,
    PAPER_COLUMNS,
    Place,
    Printed,
    digests,
    paper_files,
    read_ours,
    read_paper,
)
from lntune.plan.plan import literature_rows
from lntune.report import rows
from lntune.report.rows import rate_text
from shown_results import parts_of, write_result

PAPER = ROOT / "workflow" / "paper"

# Each row's sum over all its figures, in the order of the rows.
ROW_SUMS = {
    "table1": (
        "1532.96 1390.60 1025.47 1230.21 1035.26 1290.28 1208.36 1350.36 1313.99 1187.91 855.91 1117.77 886.58 1138.77 "
        "1029.76 1336.32 1218.34 1463.47 1355.51 1217.79 820.24 894.04 870.91 956.90 842.84 1038.15 889.14 1162.78 "
        "1049.61 1179.77 955.55 1554.55 1369.89"
    ),
    "table2": "193.42 86.12 94.26 131.45 68.78 50.607",
    "table3": (
        "1230.21 1350.36 1354.72 1187.91 1138.77 833.07 1327.39 1217.79 973.38 894.04 1038.15 1241.77 1162.78 1554.55 "
        "1335.45"
    ),
    "table4": "1138.77 734.06 878.19 1038.15 985.65 874.98",
    "table6": "1.209 1.095 1.167",
    "tableA1": "125.15 128.38",
}

# Each column's sum, figure by figure: MME's two, VQAv2, MSCOCO, Flickr30k, POPE's three.
COLUMN_SUMS = {
    "table1": "20341.6 7395.4 543.79 2149.25 1217.45 2017.5 2151.9 1953.1",
    "table3": "9582.4 3299.5 239.17 1101.76 627.41 989.1 1053.5 947.5",
    "table4": "2727.3 1051.5 94.72 445.34 240.24 356.6 382.1 352.0",
}

# Figures, and how many of them are no numbers.
COUNTS = {
    "table1": (264, 2),
    "table2": (24, 5),
    "table3": (120, 0),
    "table4": (48, 0),
    "table5": (32, 0),
    "table6": (6, 0),
    "tableA1": (8, 1),
    "figure3": (2, 0),
    "learning-rates": (11, 0),
}

SPOTS = {
    ("table1", "Baseline models", "mPLUG-Owl", "MME", "cognition"): "276.1",
    ("table1", "Baseline models", "MiniGPT4", "MSCOCO", ""): "-",
    ("table1", "MM-VICUNA-7B", "LayerNorm-simp.", "VQAv2", ""): "23.46",
    ("table1", "MM-LLAMA2-7B", "Attn. QV Proj.", "POPE", "adversarial"): "56.8",
    ("table1", "MM-LLAMA2-CHAT-7B", "Finetune", "MSCOCO", ""): "66.33",
    ("table1", "MM-LLAMA2-13B", "Attn. MLP", "VQAv2", ""): "25.19",
    ("table1", "MM-LLAMA2-CHAT-13B", "LayerNorm-simp.", "MME", "perception"): "824.3",
    ("table2", "7B scale", "Attn. QV Proj.", "Mem. (GB)", ""): "57.0",
    ("table2", "13B scale", "Attn. QV Proj.", "Mem. (GB)", ""): "OOM",
    ("table2", "13B scale", "LayerNorm-simp.", "#param.", ""): "0.003%",
    ("table3", "MM-LLAMA2-CHAT-7B", "Finetune-80K", "MSCOCO", ""): "57.40",
    ("table3", "MM-VICUNA-7B", "LayerNorm-Conv. 20K", "MME", "perception"): "777.1",
    ("table4", "MM-LLAMA2-7B", "Connector", "POPE", "random"): "73.7",
    ("table4", "MM-LLAMA2-13B", "Connector", "Flickr30k", ""): "25.13",
    ("table4", "MM-LLAMA2-13B", "LayerNorm", "MME", "cognition"): "188.6",
    ("table5", "MM-LLAMA2-7B", "LayerNorm", "MME", "cognition"): "127.14",
    ("table5", "MM-LLAMA2-13B", "Finetune", "VQAv2", ""): "25.38",
    ("table6", "MM-LLAMA2-7B", "Finetune", "Similarity", ""): "0.591",
    ("tableA1", "MM-LLAMA2-13B", "1e-3", "Flickr30k", ""): "46.88",
    ("figure3", "MM-VICUNA-7B", "LayerNorm", "Similarity", ""): "0.585",
    ("learning-rates", "appendix A.1", "9", "Learning rate", ""): "6e-6",
}


def _table(name: str) -> list[Printed]:
    return read_paper(PAPER / f"{name}.csv")


def _decimal(one: Printed) -> Decimal:
    return Decimal(0) if one.number is None else Decimal(one.text.rstrip("%"))


@pytest.mark.parametrize("name", COUNTS)
def test_as_many_figures_as_are_printed(name: str) -> None:
    figures = _table(name)
    assert (len(figures), sum(one.number is None for one in figures)) == COUNTS[name]


@pytest.mark.parametrize("name", ROW_SUMS)
def test_every_row_adds_up(name: str) -> None:
    sums: dict[tuple[str, str], Decimal] = {}
    for one in _table(name):
        # Table 2 prints both sizes of a method in one line, Tables 6 and A1 an LLM's figures.
        row = {"table2": ("", one.place.row), "table6": (one.place.group, ""), "tableA1": (one.place.group, "")}
        key = row.get(name, (one.place.group, one.place.row))
        sums[key] = sums.get(key, Decimal(0)) + _decimal(one)
    assert list(sums.values()) == [Decimal(text) for text in ROW_SUMS[name].split()]


@pytest.mark.parametrize("name", COLUMN_SUMS)
def test_every_column_adds_up(name: str) -> None:
    sums: dict[tuple[str, str], Decimal] = {}
    for one in _table(name):
        if one.number is not None:
            key = (one.place.column, one.place.part)
            sums[key] = sums.get(key, Decimal(0)) + _decimal(one)
    assert list(sums.values()) == [Decimal(text) for text in COLUMN_SUMS[name].split()]


def test_table_5_adds_up() -> None:
    sums = Counter[str]()
    for one in _table("table5"):
        sums[one.place.group] += _decimal(one)  # type: ignore[assignment]
    assert sums == {"MM-LLAMA2-7B": Decimal("1515.04"), "MM-LLAMA2-13B": Decimal("1665.57")}


def test_single_figures() -> None:
    found = {one.place: one.text for name in COUNTS for one in _table(name)}
    assert {place: found[Place(*place)] for place in SPOTS} == SPOTS


def test_emphasis_is_that_of_the_text() -> None:
    marks = Counter[tuple[str, str]]()
    for name in COUNTS:
        with (PAPER / f"{name}.csv").open(newline="") as file:
            for record in csv.DictReader(file):
                marks[name, "bold"] += record["bold"] == "yes"
                marks[name, "underline"] += record["underline"] == "yes"
    assert marks["table1", "bold"] == 6 and marks["table1", "underline"] == 32
    assert marks["table3", "bold"] == 2 and marks["table4", "bold"] == 1 and marks["table5", "bold"] == 18
    assert sum(marks[name, "underline"] for name in COUNTS) == 32, "Table 1 alone underlines"


def test_names_are_the_projects() -> None:
    scale = yaml.safe_load((ROOT / "workflow/scales/paper.yaml").read_text())
    llms = {llm["title"] for llm in scale["llms"].values()}
    for name in ("table1", "table3", "table4", "table5", "table2"):
        report_item = yaml.safe_load((ROOT / f"workflow/report_items/{name}.yaml").read_text())
        groups = [one["title"] if isinstance(one, dict) else scale["llms"][one]["title"] for one in report_item["llms"]]
        figures = [one.place for one in _table(name) if one.place.group != "Baseline models"]
        assert list(dict.fromkeys(place.group for place in figures)) == groups
        assert list(dict.fromkeys(place.row for place in figures)) == [row["title"] for row in report_item["rows"]]
        assert list(dict.fromkeys(place.column for place in figures)) == report_item["columns"]
    for name in ("table6", "tableA1", "figure3"):
        assert {one.place.group for one in _table(name)} <= llms


def test_cognition_scores_can_be_reached() -> None:
    """MME's cognition has subtasks of 140 and 40 questions in pairs, so its scores are multiples of 5/14."""
    checked = 0
    for name in ("table1", "table3", "table4", "table5"):
        for one in _table(name):
            if one.place.part == "cognition" and one.number is not None:
                digits = len(one.text.partition(".")[2])
                near = round(one.number * 14 / 5) * 5 / 14
                assert abs(near - one.number) <= 0.5 * 10**-digits + 1e-9, one.place
                checked += 1
    assert checked == 33 + 15 + 6 + 4


def test_a_figure_as_number() -> None:
    texts = ("95.70%", "3e-6", "-", "OOM", "0.004%", "66.33")
    numbers = [Printed(Place("t", "g", "r", "c", ""), text).number for text in texts]
    assert numbers == [95.7, 3e-6, None, None, 0.004, 66.33]


HEADER = ",".join(PAPER_COLUMNS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("table,group\n", "its first line must be table,group,row"),
        (f"{HEADER}\ntable9,A,R,C,,1,,,,\ntable9,A,R,C,,2,,,,\n", "line 3: table9, A, R, C is there twice"),
        (f"{HEADER}\ntable8,A,R,C,,1,,,,\n", "line 2: table is 'table8', and the file is table9.csv"),
        (f"{HEADER}\ntable9,A,R,C,,,,,,\n", "line 2: table9, A, R, C has no value"),
        (f"{HEADER}\ntable9,A,R,C,,1,,,\n", "line 2: 10 fields are expected"),
        (f"{HEADER}\n", "holds no figures"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "table9.csv"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        read_paper(file)
    assert complaint in str(raised.value) and "table9.csv" in str(raised.value)


OURS = """\
model,method,MME,MME 95% interval,VQAv2,Mem. (GB),Mem. (GB) predicted,Similarity,Similarity 95% interval,source
Baseline models,LLaVA,1.0/2.0,,3.0,,,,,literature
MM-VICUNA-7B,Finetune,625.2/270.7,600.0..650.5/-,15.4,OOM,90.1,0.501,-0.012..0.623,ours
MM-VICUNA-7B,LoRA,-,,16.0,12.5,12.4,,,ours
"""


def test_our_table_in_the_papers_terms(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "result", "table1", OURS)
    found = {one.place[1:]: (one.text, one.bounds) for one in read_ours("table1", folder)}
    assert found == {
        ("MM-VICUNA-7B", "Finetune", "MME", "perception"): ("625.2", (600.0, 650.5)),
        ("MM-VICUNA-7B", "Finetune", "MME", "cognition"): ("270.7", None),
        ("MM-VICUNA-7B", "Finetune", "VQAv2", ""): ("15.4", None),
        ("MM-VICUNA-7B", "Finetune", "Mem. (GB)", ""): ("OOM", None),
        ("MM-VICUNA-7B", "Finetune", "Similarity", ""): ("0.501", (-0.012, 0.623)),
        ("MM-VICUNA-7B", "LoRA", "MME", "perception"): ("-", None),
        ("MM-VICUNA-7B", "LoRA", "MME", "cognition"): ("-", None),
        ("MM-VICUNA-7B", "LoRA", "VQAv2", ""): ("16.0", None),
        ("MM-VICUNA-7B", "LoRA", "Mem. (GB)", ""): ("12.5", None),
    }
    write_result(folder, "table1", OURS.replace("625.2/270.7", "625.2"))
    with pytest.raises(UserError, match=r"MME: '625\.2' holds 1 figures, this column's cells 2"):
        read_ours("table1", folder)


BARS = """\
model,method,MME,MME 95% interval,VQAv2,VQAv2 95% interval,scale
MM: A,Detail,900.0,880.0..950.0,20.00,18.00..22.00,demo
"""
MAPS = """\
model,method,layer,other_layer,similarity,scale
MM-A,Finetune,1,1,1,demo
MM-A,Finetune,1,2,0.5004,demo
MM-A,Finetune,2,1,0.5004,demo
MM-A,Finetune,2,2,1,demo
"""


def test_our_figures_in_the_papers_terms(tmp_path: Path) -> None:
    """Bars show the sum of MME's parts and heat maps each pair of layers; both also have a table's cells."""
    cells = [("MME", "600.0/300.0"), ("VQAv2", "20.00")]
    said = [
        {"row": "MM: A: Detail", "column": column, "value": value, "parts": parts_of(column)} for column, value in cells
    ]
    bars = read_ours("figure2", write_result(tmp_path / "bars", "figure2", BARS, said))
    assert [(one.place[1:], one.text, one.bounds) for one in bars] == [
        (("MM: A", "Detail", "MME", "perception"), "600.0", None),
        (("MM: A", "Detail", "MME", "cognition"), "300.0", None),
        (("MM: A", "Detail", "VQAv2", ""), "20.00", (18.0, 22.0)),
    ]
    said = [{"row": "MM-A: Finetune", "column": "Similarity", "value": "0.500", "parts": [""]}]
    (only,) = read_ours("figure3", write_result(tmp_path / "maps", "figure3", MAPS, said))
    assert (only.place, only.text) == (Place("figure3", "MM-A", "Finetune", "Similarity", ""), "0.500")


def test_the_parts_of_cells_are_the_papers() -> None:
    found: dict[str, dict[str, None]] = {}
    for name in ("table1", "table3", "table4", "table5"):
        for one in _table(name):
            if one.place.part:
                found.setdefault(one.place.column, {})[one.place.part] = None
    assert {column: tuple(parts) for column, parts in found.items()} == {
        one.column: tuple(one.parts) for one in benchmarks() if len(one.parts) > 1
    }


def test_cells_are_read_from_the_file_that_tables_and_figures_write() -> None:
    assert rows.CELLS == CELLS


def test_the_papers_rows_of_the_literature() -> None:
    (owl, gpt, llava) = literature_rows(ROOT, "table1", ["Baseline models"], ["MME", "MSCOCO", "POPE", "Mem. (GB)"])
    assert owl.model_dump() == {
        "group": "Baseline models", "title": "mPLUG-Owl", "cells": ("967.4/276.1", "70.70", "50.9/54.0/50.7", ""),
    }  # fmt: skip
    assert gpt.cells[1] == "-" and llava.title == "LLaVA-v0"
    assert literature_rows(ROOT, "no-table-of-the-paper", [], ["MME"]) == ()


def test_learning_rates_are_written_as_in_table_a1() -> None:
    printed = {one.place.row for one in _table("tableA1")} - {"-"}
    scale = yaml.safe_load((ROOT / "workflow/scales/paper.yaml").read_text())
    assert {rate_text(rate) for rate in scale["sweeps"]["layernorm-simp"]} == printed
    assert [rate_text(rate) for rate in (0.04, 0.0025, 1e-7)] == ["4e-2", "2.5e-3", "1e-7"]


def test_files_and_their_digests(tmp_path: Path) -> None:
    files = paper_files(ROOT)
    assert set(files) == {f"{name}.csv" for name in COUNTS} | {"claims.yaml"}
    assert "claims.yaml" not in paper_files(ROOT, claims=False)
    assert all(len(digest) == 64 for digest in digests(files).values())
    with pytest.raises(UserError, match="holds no table of the paper"):
        paper_files(tmp_path)
    with pytest.raises(UserError, match="restore it"):
        digests({"table1.csv": tmp_path / "table1.csv"})
