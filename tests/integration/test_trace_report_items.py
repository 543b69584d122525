"""What rests on several seeds, on a learning rate that nobody chose, on a measurement, or on the literature; figures.

Trace, verify and export are asked about small tables and figures of each kind, made for two seeds at a tiny scale.
"""

import csv
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from checkout import Checkout, ask_for
from lntune.commands.export import export
from lntune.commands.gc import collect
from lntune.commands.trace.cell import trace_cell
from lntune.commands.trace.text import trace_text
from lntune.commands.verify.check import verify
from lntune.errors import UserError
from lntune.plan.targets import FORMATS

pytestmark = pytest.mark.slow

REPORT_ITEMS = {
    "table1": """\
title: "Table 1: with rows of the literature"
columns: [VQAv2, POPE]
literature: [Baseline models]
paired_with: LayerNorm
llms: [vicuna-7b]
rows:
  - {title: LayerNorm, method: layernorm, data: Conv.20K}
  - {title: Blind, method: layernorm, data: Conv.20K, blind: true}
""",
    "figure2": """\
title: "Figure 2: bars"
figure: bars
columns: [POPE]
llms: [vicuna-7b]
rows:
  - {title: LayerNorm, method: layernorm, data: Conv.20K}
  - {title: Blind, method: layernorm, data: Conv.20K, blind: true}
""",
    "figure4": """\
title: "Figure 4: curves"
figure: gradients
norms:
  - {norm: input, layer: 1, of: 2}
llms: [vicuna-7b]
rows:
  - {title: LayerNorm, method: layernorm, data: Conv.20K}
""",
    "table2": """\
title: "Table 2: costs"
columns: [Mem. (GB), "#param."]
layout: groups-across
emphasis: none
llms: [{llm: vicuna-7b, title: 7B scale}]
rows:
  - {title: LayerNorm, method: layernorm}
""",
    "tableA1": """\
title: "Table A1: learning rates"
columns: [Flickr30k]
layout: rows-across
emphasis: none
llms: [vicuna-7b]
rows:
  - {title: "{rate}", method: layernorm, data: Conv.20K, sweep: true}
""",
}
SHOWN = [("figures" if name.startswith("figure") else "tables", name) for name in REPORT_ITEMS]
GROUP = "MM-VICUNA-7B"
ROW = f"{GROUP}: LayerNorm"
Found = dict[str, Any]
Trace = Callable[..., Found]


@pytest.fixture(scope="module")
def two_seeds(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished checkout, with these tables and figures of two seeds made as well."""
    root = tmp_path_factory.mktemp("two-seeds") / "checkout"
    shutil.copytree(made.root, root)
    checkout = Checkout(root)
    for name, text in REPORT_ITEMS.items():
        (root / f"workflow/report_items/{name}.yaml").write_text(text)
    scale = checkout.yaml("workflow/scales/tiny.yaml")
    scale["sweeps"] = {"layernorm": scale["methods"]["layernorm"]["learning_rates"]}  # so that nothing more is tuned
    checkout.write_yaml("workflow/scales/tiny.yaml", scale)
    checkout.edit("config.yaml", "seeds: [0] ", "seeds: [0, 1] ")
    ask_for(root / "config.yaml", *REPORT_ITEMS)
    checkout.snakemake("-c2", *(f"{of}/{name}.{suffix}" for of, name in SHOWN for suffix in FORMATS[of]))
    return checkout


@pytest.fixture
def trace(two_seeds: Checkout, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Traces a cell."""
    monkeypatch.chdir(two_seeds.root)
    return lambda table, row, column, **given: trace_cell(Path("."), table, row, column, **given)


@pytest.fixture
def copied(two_seeds: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A copy to be edited, as the working directory."""
    shutil.copytree(two_seeds.root, tmp_path / "copied")
    monkeypatch.chdir(tmp_path / "copied")
    return Checkout(tmp_path / "copied")


def record(checkout: Checkout, file: str, method: str) -> dict[str, str]:
    with (checkout.root / file).open() as lines:
        (found,) = (one for one in csv.DictReader(lines) if one["method"] == method)
    return found


def behind(found: Found, start: str) -> set[str]:
    """A result and all behind it."""
    names, waiting = set[str](), [start]
    while waiting:
        names.add(name := waiting.pop())
        waiting += [given["result"] for given in found["results"][name]["inputs"]]
    return names


# --- trace -----------------------------------------------------------------------------------------------------------


def test_a_cell_of_two_seeds_has_two_ways_that_share_the_data(two_seeds: Checkout, trace: Trace) -> None:
    found = trace("table1", ROW, "VQAv2", show=2)
    assert found["value"] == record(two_seeds, "tables/table1.csv", "LayerNorm")["VQAv2"]
    first, second = found["from"]
    assert (first["seed"], second["seed"]) == (0, 1)
    assert float(found["value"]) == pytest.approx(mean(float(one["value"]) for one in found["from"]), abs=0.006)
    ways = [behind(found, one["result"]) for one in found["from"]]
    assert ways[0] | ways[1] == set(found["results"])
    stages = [{name.partition("/")[0] for name in way} for way in (ways[0] - ways[1], ways[1] - ways[0])]
    assert stages[0] == stages[1] == {"score-vqav2", "predict", "score-captions", "select", "finetune", "connector"}
    for name in ways[1] - ways[0]:
        assert "seed-1" in name and found["results"][name]["seed"] in (None, 1)
    text = trace_text(found)
    assert text.startswith(f"table1 | {ROW} | VQAv2 = {found['value']}  (scale: tiny, of 2 seeds)\n")
    for one in found["from"]:
        assert f"\nscore of seed {one['seed']}, {one['value']}: {one['result']}\n" in text
    assert [len(one["shown"]) for one in found["examples"]] == [2, 2]
    assert re.search(r"\n\nseed 0\n2 of \d+ questions.*\n\nseed 1\n2 of \d+ questions", text, re.DOTALL)
    connectors = [name for name in found["results"] if name.startswith("connector/")]
    assert len(connectors) == 2 and all(text.count(f"connector: {name}\n") == 1 for name in connectors)


def test_a_learning_rate_of_two_seeds_leads_to_two_selections(trace: Trace) -> None:
    found = trace("table1", ROW, "learning_rate")
    assert found["value"] == "0.005"
    assert [one["result"].partition("/")[0] for one in found["from"]] == ["select", "select"]
    text = trace_text(found)
    assert "\nselection of seed 1: select/" in text and text.count("its score: score-captions/") == 2


def test_a_seeds_score_that_was_deleted(copied: Checkout) -> None:
    before = trace_cell(Path("."), "table1", ROW, "POPE")
    lost = before["from"][1]["result"]
    shutil.rmtree(copied.root / "results" / lost)
    found = trace_cell(Path("."), "table1", ROW, "POPE")
    assert found["value"] == before["value"] and set(found["results"]) == set(before["results"])
    assert [one["value"] for one in found["from"]] == [before["from"][0]["value"], None]
    assert f"score of seed 1: {lost}  (deleted since)" in trace_text(found)


def test_a_swept_row_leads_to_a_finetune_that_nobody_chose(two_seeds: Checkout, trace: Trace) -> None:
    found = trace("tableA1", "5e-3", "Flickr30k")
    assert found["value"] == record(two_seeds, "tables/tableA1.csv", "5e-3")["Flickr30k"] and len(found["from"]) == 2
    assert not any(name.startswith("select/") for name in found["results"])
    assert "tuned: finetune/vicuna-7b-layernorm-Conv.20K-seed-1-0.005-" in trace_text(found)
    rate = trace("tableA1", "5e-3", "learning_rate")
    assert (rate["value"], rate["from"], rate["results"]) == ("5e-3", [], {})
    assert " | learning_rate = 5e-3\nthe row is of this learning rate; none was chosen\n" in trace_text(rate)


def test_costs_lead_to_the_measurement_with_what_was_predicted_beside(two_seeds: Checkout, trace: Trace) -> None:
    shown = record(two_seeds, "tables/table2.csv", "LayerNorm")
    for column in ("Mem. (GB)", "#param.", "Mem. (GB) predicted"):
        found = trace("table2", "7B scale: LayerNorm", column)
        assert found["value"] == shown[column]
        (source,) = found["from"]
        assert source["seed"] is None and source["result"].startswith("measure/")
        measured = found["results"][source["result"]]["numbers"]
        folder = two_seeds.root / "results" / source["result"]
        assert measured == json.loads((folder / "measure.json").read_text())["numbers"]
        text = trace_text(found)
        numbers = {(one["name"], one["label"]): one["value"] for one in measured}
        said = " ".join(text.replace("│", " ").split())
        assert f"measurement: {source['result']}\n" in text
        assert f"memory: {numbers['peak_bytes', 'measured']:,} bytes measured (bytes of live tensors" in said
        assert f"; {numbers['peak_bytes', 'predicted']:,} bytes predicted" in said
        assert f"{numbers['trainable', 'measured']:,} of {numbers['parameters', 'measured']:,} parameters train" in said
        assert {name.partition("/")[0] for name in found["results"]} == {"measure", "fetch"}
    with pytest.raises(UserError, match="7B scale: LayerNorm has no learning rate; no model was tuned for it"):
        trace("table2", "LayerNorm", "learning_rate")
    with pytest.raises(UserError, match="its questions cannot be shown"):
        trace("table2", "LayerNorm", "#param.", show=1)


def test_a_row_of_the_literature_leads_to_the_papers_table(two_seeds: Checkout, trace: Trace) -> None:
    found = trace("table1", "mplug-owl", "POPE")
    assert found["row"] == "Baseline models: mPLUG-Owl" and found["notes"] == []
    assert found["value"] == record(two_seeds, "tables/table1.csv", "mPLUG-Owl")["POPE"]
    assert (found["from"], found["results"]) == ([], {})
    lines = (two_seeds.root / "workflow/paper/table1.csv").read_text().splitlines()
    places = [place for place, line in enumerate(lines, 1) if ",mPLUG-Owl,POPE," in line]
    assert [lines[place - 1].split(",")[5] for place in places] == found["value"].split("/")
    assert f"workflow/paper/table1.csv, lines {' and '.join(map(str, places))} (" in found["because"]
    assert found["because"].startswith("as the paper prints it, from the literature; nothing here made it: ")
    assert trace_text(found).splitlines()[0] == f"table1 | Baseline models: mPLUG-Owl | POPE = {found['value']}"
    for column in ("learning_rate", "POPE 95% interval"):
        with pytest.raises(UserError, match=r"is no number to be traced; there are VQAv2; POPE$"):
            trace("table1", "mPLUG-Owl", column)
    with pytest.raises(UserError, match="POPE of Baseline models: mPLUG-Owl has no questions to show"):
        trace("table1", "mPLUG-Owl", "POPE", show=1)


def test_a_difference_is_read_from_both_rows(two_seeds: Checkout, trace: Trace) -> None:
    column = "POPE minus LayerNorm 95% interval"
    found = trace("table1", "Blind", column, show=1)
    assert found["value"] == record(two_seeds, "tables/table1.csv", "Blind")[column]
    blind, seeing = "MM-VICUNA-7B: Blind", ROW
    assert [(one["row"], one["seed"]) for one in found["from"]] == [(blind, 0), (blind, 1), (seeing, 0), (seeing, 1)]
    assert len({one["result"] for one in found["from"]}) == 4 == len(found["examples"])
    text = trace_text(found)
    assert f"\nscore of {seeing}, seed 1: {found['from'][3]['result']}\n" in text and f"\n\n{blind}, seed 0\n" in text
    assert [one["row"] for one in trace("table1", "Blind", "POPE")["from"]] == [blind, blind]


def test_a_figures_cell_is_traced_as_a_tables(two_seeds: Checkout, trace: Trace) -> None:
    of_table, found = trace("table1", ROW, "POPE"), trace("figures/figure2.csv", ROW, "POPE")
    assert (found["value"], found["from"], found["results"]) == tuple(
        of_table[key] for key in ("value", "from", "results")
    )
    assert found["result"].startswith("figure-bars/figure2-")
    assert found["notes"] == [f"drawn is {record(two_seeds, 'figures/figure2.csv', 'LayerNorm')['POPE']}"]
    assert trace("figure2", ROW, "learning_rate")["from"] == trace("table1", ROW, "learning_rate")["from"]
    with pytest.raises(UserError, match=r"^figures/figure2\.md: there is none; there are figures/figure2\.pdf, "):
        trace("figures/figure2.md", ROW, "POPE")


def test_a_figure_of_curves_leads_to_the_chosen_runs(two_seeds: Checkout, trace: Trace) -> None:
    found = trace("figures/figure4.svg", ROW, "learning_rate")
    assert (found["value"], found["notes"]) == (trace("table1", ROW, "learning_rate")["value"], [])
    assert [one["result"].partition("/")[0] for one in found["from"]] == ["select", "select"]
    assert trace_text(found).count("chosen, learning rate 0.005, CIDEr ") == 2
    with pytest.raises(UserError, match="has no column 'POPE'; there are learning_rate"):
        trace("figure4", ROW, "POPE")


# --- verify and export -----------------------------------------------------------------------------------------------


def test_cells_that_rest_on_one_seed_of_two(copied: Checkout) -> None:
    assert verify(Path("."), [*REPORT_ITEMS], jobs=1).problems == ()
    answers = trace_cell(Path("."), "table1", ROW, "POPE")["from"][1]["result"].replace("score-pope/", "")
    (found,) = (one for one in copied.results("predict") if one.name.startswith(answers.rpartition("-")[0]))
    file = found / "answers.jsonl"
    file.chmod(0o644)
    file.write_text(file.read_text().replace('"id"', ' "id"', 1))
    (problem,) = verify(Path("."), [*REPORT_ITEMS], jobs=1).problems
    assert problem.path.endswith(f"{found.name}/answers.jsonl")
    shown_in = {("table1", ROW, "POPE"), ("figure2", ROW, "POPE")}
    assert {(cell.table, cell.row, cell.column) for cell in problem.cells} == shown_in


def test_published_files_that_were_edited(copied: Checkout) -> None:
    file = copied.root / "tables/table1.csv"
    file.write_text(file.read_text().replace("50.9/54.0/50.7", "90.9/54.0/50.7"))
    (copied.root / "tables/table2.tex").write_text("edited by hand\n")
    problems = {problem.path: problem for problem in verify(Path("."), [*REPORT_ITEMS], jobs=1).problems}
    assert problems.keys() == {"tables/table1.csv", "tables/table2.tex"}
    (cell,) = problems["tables/table1.csv"].cells
    assert (cell.row, cell.column) == ("Baseline models: mPLUG-Owl", "POPE")
    assert {cell.column for cell in problems["tables/table2.tex"].cells} == {"Mem. (GB)", "#param."}
    assert '"edited by hand" in line 1, not ' in problems["tables/table2.tex"].what[0]


def test_published_figures_that_were_edited(copied: Checkout) -> None:
    for file in ("figure2.png", "figure4.pdf", "figure4.csv"):
        with (copied.root / "figures" / file).open("ab") as opened:
            opened.write(b"x\n")
    lines = (copied.root / "figures/figure2.csv").read_text().splitlines()
    lines[2] = lines[2].replace(",", ",9", 2).replace(",9", ",", 1)
    (copied.root / "figures/figure2.csv").write_text("\n".join(lines) + "\n")
    problems = {problem.path: problem.cells for problem in verify(Path("."), ["figure2", "figure4"], jobs=1).problems}
    of_curves = {(ROW, "learning_rate")}
    assert {path: {(cell.row, cell.column) for cell in cells} for path, cells in problems.items()} == {
        "figures/figure2.png": {(row, of) for row in (ROW, f"{GROUP}: Blind") for of in ("POPE", "learning_rate")},
        "figures/figure2.csv": {(f"{GROUP}: Blind", "POPE")},
        "figures/figure4.pdf": of_curves,
        "figures/figure4.csv": of_curves,
    }


def test_a_published_figure_of_another_config_keeps_its_results(copied: Checkout) -> None:
    before = set(collect(Path(".")).stays)
    copied.edit("workflow/report_items/figure4.yaml", "curves", "other curves")
    copied.edit("workflow/report_items/figure2.yaml", 'bars"', 'other bars"')
    for file in (copied.root / "figures").glob("figure2.*"):
        if file.suffix != ".png":
            file.unlink()
    found = collect(Path("."))
    of_figures = {name.partition("/")[0]: why for name, why in found.stays.items() if name.startswith("figure-")}
    assert of_figures == {
        "figure-bars": "needed by figures/figure2.png",
        "figure-gradients": "needed by figures/figure4.csv",
    }
    assert set(found.stays) == before
    for file in (copied.root / "figures").glob("*"):
        file.unlink()
    shutil.rmtree("results/.leases")
    assert {item.stage for item in collect(Path(".")).items} >= {"figure-bars", "figure-gradients"}


def test_an_export_tells_what_is_of_the_literature(copied: Checkout, tmp_path: Path) -> None:
    export(Path("."), "table1", tmp_path / "table1.zip")
    with zipfile.ZipFile(tmp_path / "table1.zip") as archive:
        readme = archive.read("README.md").decode()
        assert archive.read("tables/table1.csv") == (copied.root / "tables/table1.csv").read_bytes()
        assert archive.read("workflow/paper/table1.csv") == (copied.root / "workflow/paper/table1.csv").read_bytes()
        graph = {one["@id"]: one for one in json.loads(archive.read("ro-crate-metadata.json"))["@graph"]}
        cells = json.loads(archive.read(next(one for one in archive.namelist() if one.endswith("/cells.json"))))
    assert "from the literature, and their\nvalues are in `workflow/paper/table1.csv`" in readme
    assert {"@id": "workflow/paper/table1.csv"} in graph["#run"]["object"]
    assert [len(cell["scores"]) for cell in cells] == [2, 2, 2, 2]


def test_an_export_of_a_figure_holds_it_as_it_is_drawn(copied: Checkout, tmp_path: Path) -> None:
    export(Path("."), "figures/figure4.pdf", tmp_path / "figure4.zip")
    with zipfile.ZipFile(tmp_path / "figure4.zip") as archive:
        for suffix in FORMATS["figures"]:
            published = (copied.root / f"figures/figure4.{suffix}").read_bytes()
            assert archive.read(f"figures/figure4.{suffix}") == published
        readme = archive.read("README.md").decode()
        graph = {one["@id"]: one for one in json.loads(archive.read("ro-crate-metadata.json"))["@graph"]}
    assert ": a figure made by lntune" in readme and "For example the first learning rate:\n\n    selections " in readme
    assert graph["figures/figure4.png"]["encodingFormat"] == "image/png"
    assert graph["./"]["description"].startswith("A figure made by the workflow lntune")


def test_an_export_of_costs_follows_the_measurement(copied: Checkout, tmp_path: Path) -> None:
    export(Path("."), "tables/table2.csv", tmp_path / "table2.zip")
    with zipfile.ZipFile(tmp_path / "table2.zip") as archive:
        readme = archive.read("README.md").decode()
        (measure,) = (name for name in archive.namelist() if name.endswith("/measure.json"))
        assert json.loads(archive.read(measure))["numbers"]
    way = [line.split() for line in readme.splitlines() if line.startswith("    ")]
    assert [role for role, _ in way] == ["scores", "llm"] and f"{way[0][1]}/measure.json" == measure
    assert "literature" not in readme
