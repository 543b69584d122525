"""tables/data.csv through the workflow: made, verified, planned, and said where its numbers are counted."""

import csv

import pytest

from checkout import Checkout

pytestmark = pytest.mark.slow

TABLE = "tables/data.csv"


def test_the_table_of_data_is_made_and_checked_as_others_are(copy: Checkout) -> None:
    assert copy.pending(TABLE) == {}  # a plain run makes it
    with (copy.root / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == [
        "connector", "80K", "Conv.20K", "Detail.20K", "Reasoning.20K", "MME", "VQAv2", "MSCOCO", "Flickr30k", "POPE",
    ]  # fmt: skip
    for row in rows:
        dropped = sum(int(value) for name, value in row.items() if name.startswith("dropped: "))
        assert int(row["read"]) == dropped + int(row["kept"]) > 0
    assert rows[2]["dropped: beyond the number asked for"] == "35"
    assert copy.pending(TABLE) == {}
    assert "0 results to make" in copy.run("lntune", "plan", TABLE)
    assert "all right" in copy.run("lntune", "verify", TABLE)
    said = copy.run("lntune", "trace", "data", "80K", "kept", code=1)
    assert "error: tables/data: the numbers of 80K are counts" in said and "results/prepare/80K-" in said
    assert "are of tables and figures of workflow/report_items" in copy.run(
        "lntune", "export", TABLE, "data.zip", code=1
    )
    copy.edit(TABLE, "\n80K,training,instruct,samples,96,", "\n80K,training,instruct,samples,97,")
    assert copy.pending(TABLE) == {"publish": 1}
    assert f"{TABLE}: does not show " in copy.run("lntune", "verify", TABLE, code=1)
    counts = next(copy.root.glob("results/prepare/80K-*/dropped.json"))
    counts.chmod(0o644)
    counts.write_text(counts.read_text().replace('"read": 96', '"read": 97'))
    said = copy.run("lntune", "verify", "tables/data.md", code=1)
    assert "dropped.json: does not hold the bytes that its manifest says" in said
    assert "data.md: is not what its inputs give" in said


def test_no_report_item_takes_its_name(copy: Checkout) -> None:
    report_items = copy.root / "workflow/report_items"
    (report_items / "data.yaml").write_text((report_items / "tiny.yaml").read_text())
    said = copy.snakemake("-n", TABLE, code=1)
    assert "data.yaml: tables/data is no report item's; give this one another name" in said
