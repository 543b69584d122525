"""The paper's claims and the comparison as results of the workflow: what they rest on, and when they are made again."""

import csv
from pathlib import Path

import pytest

from checkout import REPORT_ITEM, ROOT, Checkout, copy_checkout
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.workflow import Workflow


def test_claims_rest_on_all_that_they_name_and_comparison_on_what_is_printed(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout.root / "workflow/report_items/mine.yaml").write_text(REPORT_ITEM)
    asked = ["table3", "mine", "figure2", "table2", "figure3", "figureA1", "figure1"]
    plan = Plan(Study.read(checkout.root, {"report_items": asked}))
    claims, comparison = plan.report_item("claims"), plan.report_item("comparison")
    assert claims.settings.tables == ("table3", "figure2", "table2", "figure3")
    assert comparison.settings.tables == ("table3", "table2", "figure3")
    for node in (claims, comparison):
        assert node.inputs["tables"] == tuple(plan.report_item(name) for name in node.settings.tables)
    alone = Plan(Study.read(checkout.root))
    assert alone.report_item("claims").settings.tables == alone.report_item("comparison").settings.tables == ()


def test_a_plain_run_makes_what_the_config_names_and_what_every_study_has(tmp_path: Path) -> None:
    besides = ("data", "claims", "comparison")
    tiny = Workflow(copy_checkout(tmp_path / "checkout").root, {}).targets()
    wanted = {f"tables/{name}.{suffix}" for name in (*besides, "tiny") for suffix in ("csv", "md")}
    assert {*wanted, "tables/tiny.tex"} == {target for target in tiny if target.startswith(("tables", "figures"))}
    every = Workflow(ROOT, {}).targets()
    assert len(every) == len(set(every))
    shown = {Path(target).stem for target in every if target.startswith(("tables", "figures"))}
    assert shown == {*besides, *Study.read(ROOT).report_items()} - {"blind", "quick", "quick-figure"}


@pytest.mark.slow
def test_claims_and_comparison_follow_from_the_papers_files(copy: Checkout) -> None:
    asked = ("tables/claims.csv", "tables/comparison.csv")
    assert copy.pending(*asked) == {}, "a plain run makes them"
    with (copy.root / asked[0]).open(newline="") as file:
        claims = {record["id"]: record for record in csv.DictReader(file)}
    assert len(claims) >= 25
    assert "all right" in copy.run("lntune", "verify", *asked)
    said = copy.run("lntune", "trace", "claims", "anything", "ours", code=1)
    assert "trace a cell of one of those" in said

    path = copy.root / "workflow" / "paper" / "table2.csv"
    path.write_text(path.read_text().replace("46.5", "46.6"))
    assert copy.pending(*asked) == {"claims": 1, "comparison": 1, "publish": 2}
    path.write_text(path.read_text().replace("46.6", "46.5"))
    assert copy.pending(*asked) == {}
