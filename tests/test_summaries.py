"""The paper's claims and the comparison as results of the workflow, on the finished tiny checkout."""

import csv

import pytest

from checkout import Checkout

pytestmark = pytest.mark.slow


def test_claims_and_comparison_follow_from_the_papers_files(copy: Checkout) -> None:
    asked = ("tables/claims.csv", "tables/comparison.csv")
    assert copy.pending(*asked) == {"claims": 1, "comparison": 1, "publish": 2}
    copy.snakemake("-c1", *asked)
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
