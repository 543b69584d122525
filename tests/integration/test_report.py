"""`snakemake --report`: all tables with their captions, in the paper's order, without a network."""

import base64
import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from checkout import Checkout

pytestmark = pytest.mark.slow

NO_NETWORK = """\
import socket


def connect(self, address):
    raise OSError(f"the network is asked for: {address}")


socket.socket.connect = socket.socket.connect_ex = connect
socket.getaddrinfo = lambda host, *_, **__: connect(None, host)
"""


def _add(copy: Checkout, name: str, title: str, **more: Any) -> None:
    said = {"title": title, "note": f"The note of {name}: *a_b* `c`.", **more}
    copy.write_yaml(f"workflow/report_items/{name}.yaml", copy.yaml("workflow/report_items/tiny.yaml") | said)


def _variable(report: str, name: str) -> Any:
    found = re.search(rf'<script id="{name.replace("_", "-")}">\s*var {name} = (.*);$', report, re.MULTILINE)
    assert found, name
    return json.loads(found[1])


def _shown(report: str, category: str) -> list[str]:
    """The pages of a category in the order in which the report lists them: that of their labels."""
    pages = [page for group in _variable(report, "categories")[category].values() for page in group]
    results = _variable(report, "results")
    return sorted(pages, key=lambda page: results[page]["labels"]["Shown"])


def _pages(*names: str) -> list[str]:
    return [f"pages/{name}.html" for name in names]


def test_the_report_shows_everything_in_the_papers_order(copy: Checkout) -> None:
    _add(copy, "table1", "Table 1: rates & methods")
    _add(copy, "tableA1", "Table A1: <more>")
    _add(copy, "table3", "Table 3: data")
    _add(copy, "figure2", "Figure 2: bars", figure="bars", columns=["VQAv2", "MSCOCO"])
    copy.edit("config.yaml", "[tiny]", "[tiny, tableA1, figure2, table3, table1]")
    assert copy.snakemake("-c2").count("Finished jobid") > 10
    shutil.rmtree(copy.root / ".snakemake")  # its records are not needed
    (copy.root / "src/sitecustomize.py").write_text(NO_NETWORK)
    (copy.root / "src/asks.py").write_text("import urllib.request\nurllib.request.urlopen('http://192.0.2.1')\n")
    assert "the network is asked for" in copy.run("asks", code=1)
    copy.snakemake("--report", "report.html")
    report = (copy.root / "report.html").read_text()

    assert _shown(report, "Figures and tables") == _pages("table1", "figure2", "table3", "tableA1")
    assert _shown(report, "More tables") == _pages("claims", "comparison", "data", "tiny")
    assert sorted(_variable(report, "categories")) == ["Figures and tables", "More tables"]
    results = _variable(report, "results")
    assert len(results) == 8
    for path, shown in results.items():
        assert shown["mime_type"] == "text/html"
        assert base64.b64decode(shown["data_uri"].partition("base64,")[2]) == (copy.root / path).read_bytes()
        assert "This is the demo" in shown["caption"] and "Scale: tiny" in shown["caption"], path
    caption = results["pages/table1.html"]["caption"]
    for text in ("Table 1: rates &amp; methods", "The note of table1: <em>a_b</em> <code>c</code>.", "lntune trace"):
        assert text in caption
    _holds_every_cell(copy, "table1")
    figure = (copy.root / "pages/figure2.html").read_text()
    image = base64.b64encode((copy.root / "figures/figure2.svg").read_bytes()).decode()
    assert f'<img alt="Figure 2: bars" src="data:image/svg+xml;base64,{image}">' in figure
    overview = _variable(report, "workflow_desc")
    titles = [
        "Table 1: rates &amp; methods",
        "Figure 2: bars",
        "Table 3: data",
        "Table A1: &lt;more&gt;",
        "The paper&#39;s claims",
    ]
    places = [overview.index(title) for title in titles]
    assert places == sorted(places)
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", report, flags=re.DOTALL)
    assert '<script id="results">' in markup and not re.search(r"\b(src|href)=|@import|url\(", markup)


def _holds_every_cell(copy: Checkout, name: str) -> None:
    page = (copy.root / f"pages/{name}.html").read_text()
    text = re.sub(r"<[^>]*>", "", page)
    with (copy.root / f"tables/{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        for column in ("method", "MME", "VQAv2", "MSCOCO", "Flickr30k", "POPE"):
            assert row[column] in text, (row["method"], column)


def test_a_page_that_does_not_show_this_configs_result(copy: Checkout) -> None:
    page = copy.root / "pages/tiny.html"
    right = page.read_text()
    page.write_text(right.replace("Finetune-80K", "Finetune-81K"))
    printed = copy.snakemake("--report", "report.html", "pages/tiny.html", code=1)
    assert printed.strip().splitlines()[-1] == (
        "error: pages/tiny.html: does not show this config's result; run `snakemake` first"
    )
    assert not (copy.root / "report.html").exists()
    assert copy.pending() == {"all": 1, "page": 1}
    page.write_bytes(b"\xf4" + right.encode())  # no text at all
    copy.snakemake("-c1", "pages/tiny.html")
    assert page.read_text() == right


def test_pages_say_the_same_without_the_store_they_were_made_in(made: Checkout, tmp_path: Path) -> None:
    """A page is a matter of its result's folder alone."""
    (result,) = made.results("table")
    shutil.copytree(result, tmp_path / "table" / result.name)
    made_elsewhere = made.run("lntune.plan.pages", str(tmp_path / "table" / result.name), "tiny")
    assert made_elsewhere == (made.root / "pages/tiny.html").read_text()
