"""Our tables beside the paper's: differences, intervals, order; the stage and the command."""

import csv
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT, Checkout, copy_checkout
from lntune.commands.compare import Comparison, _is_papers
from lntune.errors import UserError
from lntune.paper.comparison import COLUMNS, compare, markdown, orders, summary, tau_b
from lntune.paper.printed import Place, Printed, digests, paper_files, read_ours, read_paper
from lntune.plan.node import manifest_path, result_folder
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from shown_results import write_result
from stage_runs import run

OURS = """\
model,method,MME,MME 95% interval,VQAv2,VQAv2 95% interval,MSCOCO,Flickr30k,POPE
MM-VICUNA-7B,Finetune-80K,630.0/300.0,600.0..660.0/280.0..310.0,20.00,10.00..30.00,60.00,30.00,73.8/76.5/66.5
MM-VICUNA-7B,LayerNorm-80K,700.0/290.0,690.0..710.0/250.0..300.0,21.00,16.00..30.00,90.00,40.00,70.0/70.0/-
MM-VICUNA-7B,LayerNorm-Conv. 20K,600.0/280.0,-/-,19.00,-,70.00,40.00,60.0/60.0/60.0
MM-OTHER,Finetune-80K,1.0/1.0,-/-,1.00,-,1.00,1.00,1.0/1.0/1.0
"""


def plain_tau_b(a: list[float], b: list[float]) -> float | None:
    """Kendall's definition, word by word: concordant, discordant, tied in one, tied in the other."""
    n = len(a)
    concordant = discordant = 0
    for i in range(n):
        for j in range(i + 1, n):
            product = (a[i] - a[j]) * (b[i] - b[j])
            concordant += product > 0
            discordant += product < 0
    ties = [sum(size * (size - 1) // 2 for size in map(values.count, set(values))) for values in (a, b)]
    pairs = n * (n - 1) // 2
    if pairs == ties[0] or pairs == ties[1]:
        return None
    return float((concordant - discordant) / ((pairs - ties[0]) * (pairs - ties[1])) ** 0.5)


def test_tau_b_is_kendalls() -> None:
    draw = random.Random(0)
    for _ in range(300):
        n = draw.randrange(2, 9)
        a, b = ([float(draw.randrange(4)) for _ in range(n)] for _ in range(2))
        expected = plain_tau_b(a, b)
        assert tau_b(a, b) == (None if expected is None else pytest.approx(expected))
    # Known cases: the same order, the reverse, and a published example with ties (tau-b of 1,1,2 and 1,2,2 is 1/2).
    assert (tau_b([1, 2, 3], [4, 5, 9]), tau_b([1, 2, 3], [9, 5, 4])) == (1.0, -1.0)
    assert tau_b([1, 1, 2], [1, 2, 2]) == pytest.approx(0.5)
    assert tau_b([1, 1], [1, 2]) is None and tau_b([1], [1]) is None
    for order in itertools.permutations(range(4)):
        assert -1 <= (tau_b(list(range(4)), list(order)) or 0) <= 1


@pytest.fixture
def ours(tmp_path: Path) -> list[Printed]:
    return read_ours("table3", write_result(tmp_path / "result", "table3", OURS))


def paper() -> list[Printed]:
    return read_paper(ROOT / "workflow" / "paper" / "table3.csv")


def test_figures_beside_each_other(ours: list[Printed]) -> None:
    compared = {one.place: one for one in compare(paper(), ours)}
    assert len(compared) == 120 and "MM-OTHER" not in {place.group for place in compared}
    group = "MM-VICUNA-7B"
    one = compared[Place("table3", group, "Finetune-80K", "MME", "perception")]
    assert (one.difference, one.inside) == (pytest.approx(630.0 - 625.2), True)
    one = compared[Place("table3", group, "Finetune-80K", "MME", "cognition")]
    assert (one.difference, one.inside) == (pytest.approx(300.0 - 270.7), False)
    one = compared[Place("table3", group, "LayerNorm-80K", "POPE", "adversarial")]
    assert (one.difference, one.inside) == (None, None)
    one = compared[Place("table3", "MM-LLAMA2-7B", "Finetune-80K", "VQAv2", "")]
    assert (one.ours, one.difference, one.inside) == (None, None, None)


def test_orders_are_of_one_group_and_figure(ours: list[Printed]) -> None:
    found = {(one.column, one.part): (one.tau, one.rows) for one in orders(compare(paper(), ours))}
    # Perception: the paper's 625.2 < 723.2 < 777.1, ours 600 (the third) < 630 < 700.
    assert found["MME", "perception"] == (pytest.approx(-1 / 3), 3)
    assert found["VQAv2", ""] == (pytest.approx(1.0), 3)
    assert found["Flickr30k", ""] == (pytest.approx(2 / (3 * 2) ** 0.5), 3), "the two 40.00 are tied"
    assert found["POPE", "adversarial"] == (pytest.approx(-1.0), 2)


def test_the_text_of_a_comparison(ours: list[Printed]) -> None:
    compared = compare(paper(), ours)
    assert summary(compared).startswith("24 of the paper's 120 figures have ours beside them; 4 of 6 lie in our 95%")
    lines = markdown(compared, "Scale: demo.").splitlines()
    assert lines[
        2
    ] == "Scale: demo." and "| group | row | MME: paper, ours, difference | VQAv2: paper, ours" in "".join(lines)
    assert any("| Finetune-80K | 625.2/270.7, 630.0/300.0, +4.8/+29.3 |" in line for line in lines)
    starred = next(line for line in lines if "LayerNorm-80K" in line)
    assert r"21.00, +3.94 \* |" in starred
    assert len(lines) == len({line for line in lines if line and "---" not in line}) + sum(
        line == "" or "---" in line for line in lines
    )


def settings_of(tables: tuple[str, ...]) -> dict[str, Any]:
    files = paper_files(ROOT, claims=False)
    given = {"tables": tables, "scale": "demo", "scale_note": "A demo.", "protocol": "modern"}
    return given | {"files": digests(files)}


def made_of(folder: Path, tables: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The inputs and paths of a comparison of tables with these CSVs."""
    folders = tuple(write_result(folder / name, name, ours) for name, ours in tables.items())
    return {"tables": folders}, {name: str(path) for name, path in paper_files(ROOT, claims=False).items()}


def test_the_stage_writes_csv_and_markdown(tmp_path: Path) -> None:
    inputs, paths = made_of(tmp_path, {"table3": OURS})
    metrics = run(tmp_path / "out", "comparison", settings_of(("table3",)), inputs, paths=paths)
    assert metrics == {"tables": 1, "figures": 120, "ours": 24}
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS and len(rows) == 120
    assert rows[0] == {
        "table": "table3", "group": "MM-VICUNA-7B", "row": "Finetune-80K", "column": "MME", "part": "perception",
        "paper": "625.2", "ours": "630.0", "difference": "+4.8", "ours_low": "600.0", "ours_high": "660.0",
        "paper_in_interval": "yes", "kendall_tau_b": "-0.33", "rows_ordered": "3",
    }  # fmt: skip
    assert {rows[-1][name] for name in COLUMNS[6:]} == {""}
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "## table3" in text and "A demo." in text and "| MM-VICUNA-7B | MME | -0.33/" in text
    run(tmp_path / "again", "comparison", settings_of(("table3",)), inputs, paths=paths)
    for name in ("comparison.csv", "comparison.md"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


TABLE_1 = """\
model,method,MME,MME 95% interval,VQAv2,VQAv2 95% interval,source
Baseline models,MiniGPT4,866.6/292.1,,17.30,,literature
MM-VICUNA-7B,Finetune,600.0/300.0,590.0..640.0/200.0..310.0,16.00,14.00..17.00,ours
"""
TABLE_2 = """\
model,method,Mem. (GB),Mem. (GB) predicted,#param.,source
7B scale,Finetune,0.0123,0.0120,90.00%,ours
7B scale,LoRA,30.1,29.0,5.92%,ours
13B scale,Attn. QV Proj.,OOM,90.1,18.24%,ours
"""
TABLE_6 = """\
model,method,Similarity,Similarity 95% interval,source
MM-VICUNA-7B,LayerNorm,0.600,0.580..0.620,ours
MM-VICUNA-7B,Finetune,0.610,0.600..0.620,ours
"""
TABLE_A1 = """\
model,method,Flickr30k,Flickr30k 95% interval,source
MM-LLAMA2-7B,3e-6,20.00,18.00..22.00,ours
MM-LLAMA2-7B,6e-4,45.00,43.00..47.00,ours
MM-LLAMA2-13B,6e-4,40.00,39.00..41.00,ours
"""
FIGURE_3 = """\
model,method,Similarity
MM-VICUNA-7B,Finetune,0.700
"""


def test_tables_and_figures_of_every_kind_stand_beside_the_papers(tmp_path: Path) -> None:
    tables = {"table1": TABLE_1, "table2": TABLE_2, "table6": TABLE_6, "tableA1": TABLE_A1, "figure3": FIGURE_3}
    inputs, paths = made_of(tmp_path, tables)
    metrics = run(tmp_path / "out", "comparison", settings_of(tuple(tables)), inputs, paths=paths)
    assert metrics == {"tables": 5, "figures": 264 + 24 + 6 + 8 + 2, "ours": 3 + 6 + 2 + 2 + 1}
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["ours"]]
    found = [(row["group"], row["row"], row["column"], row["difference"], row["paper_in_interval"]) for row in rows]
    assert found == [
        ("MM-VICUNA-7B", "Finetune", "MME", "-25.2", "yes"),
        ("MM-VICUNA-7B", "Finetune", "MME", "+29.3", "yes"),
        ("MM-VICUNA-7B", "Finetune", "VQAv2", "+0.60", "yes"),
        ("7B scale", "Finetune", "Mem. (GB)", "", ""),
        ("7B scale", "Finetune", "#param.", "-5.70", ""),
        ("7B scale", "LoRA", "Mem. (GB)", "+0.7", ""),
        ("7B scale", "LoRA", "#param.", "+0.00", ""),
        ("13B scale", "Attn. QV Proj.", "Mem. (GB)", "", ""),
        ("13B scale", "Attn. QV Proj.", "#param.", "+0.00", ""),
        ("MM-VICUNA-7B", "LayerNorm", "Similarity", "+0.015", "yes"),
        ("MM-VICUNA-7B", "Finetune", "Similarity", "-0.014", "no"),
        ("MM-LLAMA2-7B", "3e-6", "Flickr30k", "-1.42", "yes"),
        ("MM-LLAMA2-13B", "6e-4", "Flickr30k", "+2.65", "no"),
        ("MM-VICUNA-7B", "Finetune", "Similarity", "+0.076", ""),
    ]


def test_without_tables_there_is_nothing_beside_the_papers(tmp_path: Path) -> None:
    paths = {name: str(path) for name, path in paper_files(ROOT, claims=False).items()}
    metrics = run(tmp_path / "out", "comparison", settings_of(()), {"tables": ()}, paths=paths)
    assert metrics == {"tables": 0, "figures": 0, "ours": 0}


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with a result of Table 3, as this config names it."""
    made = copy_checkout(tmp_path_factory.mktemp("compare") / "checkout")
    made.edit("config.yaml", "[tiny]", "[tiny, table3, table1]")
    plan = Plan(Study.read(made.root, {"store": str(made.root / "results")}))
    node = plan.report_item("table3")
    write_result(result_folder(plan.store, node), "table3", OURS)
    manifest_path(plan.store, node).write_text("{}")
    return made


def test_the_command_shows_only_the_order_where_models_and_data_are_not_the_papers(checkout: Checkout) -> None:
    printed = checkout.run("lntune", "compare")
    assert "Scale: tiny. Protocol: modern. These are not the paper's models and data" in printed
    assert "note: tables/table1.csv is not made yet; `snakemake tables/table1.csv` makes it" in printed
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in printed.splitlines()
        if line.startswith("| MM-")
    ]
    order = "LayerNorm-80K > Finetune-80K > LayerNorm-Conv. 20K"
    assert ["MM-VICUNA-7B", "VQAv2", order, order, "1.00"] in rows
    (flickr,) = [row for row in rows if row[1] == "Flickr30k"]
    assert flickr[3] == "LayerNorm-80K = LayerNorm-Conv. 20K > Finetune-80K"
    assert len(rows) == 2 + 1 + 1 + 1 + 3 and "20.00" not in printed
    found = json.loads(checkout.run("lntune", "compare", "table3", "--json"))
    assert len(found["values"]) == 120 and found["pending"] == []
    assert found["values"][0]["interval"] == [600.0, 660.0] and found["orders"][0]["tau"] == pytest.approx(-1 / 3)


@pytest.mark.parametrize(("scale", "papers"), [("paper-lean", True), ("pilot", True), ("workstation", False)])
def test_numbers_stand_side_by_side_where_the_models_and_the_data_are_the_papers(
    checkout: Checkout, scale: str, papers: bool
) -> None:
    study = Study.read(ROOT, {"scale": scale})
    assert _is_papers(study) is papers
    values = compare(*[read_paper(ROOT / "workflow/paper/table3.csv")] * 2)
    text = Comparison(scale, "paper", values, (), papers).text()
    assert ("120 of the paper's 120 figures" in text) is papers and ("mean nothing side by side" in text) is not papers


def test_what_cannot_be_compared_is_one_line(checkout: Checkout) -> None:
    said = checkout.run("lntune", "compare", "table1", code=1)
    assert said == "error: tables/table1.csv: not made yet under this config; run `snakemake tables/table1.csv`\n"
    said = checkout.run("lntune", "compare", "blind", code=1)
    assert said.startswith("error: blind: is no table of the paper; there are ") and said.count("\n") == 1
    said = checkout.run("lntune", "compare", "--config", "report_items=[tiny]", code=1)
    assert said.startswith("error: config.yaml: report_items: none is a table of the paper;")


def test_compare_imports_no_heavy_library() -> None:
    code = (
        "import sys; import lntune.commands.compare, lntune.paper.comparison, lntune.stages.claims, "
        "lntune.stages.comparison; print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_paper_file_that_is_gone_is_one_line(tmp_path: Path) -> None:
    from lntune.commands.compare import compare_tables

    bare = copy_checkout(tmp_path / "bare")
    for path in (bare.root / "workflow" / "paper").glob("*.csv"):
        path.unlink()
    with pytest.raises(UserError, match="holds no table of the paper"):
        compare_tables(bare.root, ["table3"])
