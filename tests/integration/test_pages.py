"""Pages of tables and figures, made from a result's folder."""

import base64
import json
import re
from pathlib import Path

import pytest

from lntune.errors import UserError
from lntune.plan.pages import caption_of, category, in_order, label, page_text

TABLE = """\
# Table 9: two ways & \\<more\\>

**This is the demo**: tiny models.

Best in bold.

| Method | MME | VQAv2 |
| --- | --- | --- |
| *MM-VICUNA-7B* | | |
| Finetune | **650.0**/300.0 | <u>20.83</u> |
| LayerNorm | 600.0/**310.0** | **27.22** |

- a footnote
"""
IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def _table(folder: Path) -> Path:
    result = folder / "table" / "table9-0123456789ab"
    result.mkdir(parents=True)
    (result / "table9.md").write_text(TABLE)
    (result / "table9.csv").write_text("model,MME\nMM-VICUNA-7B,650.0/300.0\n")
    (result / "table9.tex").write_text("\\toprule\n")
    (result / "cells.json").write_text(json.dumps([{"row": "MM-VICUNA-7B: Finetune", "column": "MME"}]))
    return result


def _kept(page: str) -> dict[str, str]:
    links = re.findall(r'<a download="(.*?)" href="data:.*?;base64,(.*?)">', page)
    return {name: base64.b64decode(content).decode() for name, content in links}


def test_a_table_is_shown_between_its_notes_and_its_origin(tmp_path: Path) -> None:
    page = page_text(_table(tmp_path), "table9")
    assert (
        "<title>Table 9: two ways &amp; &lt;more&gt;</title>" in page
        and "<h1>Table 9: two ways &amp; &lt;more&gt;</h1>" in page
    )
    order = [
        "<strong>This is the demo</strong>", "<p>Best in bold.</p>", "<table>", "<td><u>20.83</u></td>", "a footnote",
        "table/table9-0123456789ab", "lntune trace table9 'MM-VICUNA-7B: Finetune' MME", "Files:",
    ]  # fmt: skip
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert page.count('<tr class="group">\n<td colspan="3"><em>MM-VICUNA-7B</em></td>\n</tr>') == 1
    assert page.count("<tr") == page.count("</tr>") == 4 and page.count("<td>") == 6
    assert page == page_text(tmp_path / "table" / "table9-0123456789ab", "table9")


@pytest.mark.parametrize("name", ["table9.md", "cells.json"])
def test_a_result_that_is_damaged_is_named_with_the_command(name: str, tmp_path: Path) -> None:
    result = _table(tmp_path)
    (result / name).write_bytes(b"\xf4" + (result / name).read_bytes())
    with pytest.raises(UserError, match=rf"{result}/{name}: damaged \(.*\); `rm -r {result} && snakemake {result}/man"):
        page_text(result, "table9")


def test_a_page_needs_nothing_else_and_carries_its_files(tmp_path: Path) -> None:
    result = _table(tmp_path)
    page = page_text(result, "table9")
    assert _kept(page) == {name: (result / name).read_text() for name in ("table9.csv", "table9.md", "table9.tex")}
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="(.*?)"', page))


def test_a_figure_is_shown_above_its_notes(tmp_path: Path) -> None:
    result = tmp_path / "figure" / "figure9-0123456789ab"
    result.mkdir(parents=True)
    (result / "figure9.svg").write_bytes(IMAGE)
    (result / "figure9.csv").write_text("x,y\n1,2\n")
    said = {
        "name": "figure9", "title": "Figure 9: bars", "note": "Of *four*.", "scale": "tiny", "scale_note": "",
        "protocol": "modern", "split": "test", "seeds": [0, 1], "columns": ["MME"], "tokens": None, "formats": {},
        "rows": [{"group": "A", "title": "b", "learning_rate": None, "selections": [0, 1], "scores": [[0, 1]]}],
    }  # fmt: skip
    (result / "manifest.json").write_text(json.dumps({"stage": "figure-bars", "settings": said}))
    page = page_text(result, "figure9")
    (source,) = re.findall(r'<img alt="Figure 9: bars" src="data:image/svg\+xml;base64,(.*?)">', page)
    assert base64.b64decode(source) == IMAGE
    assert page.index("<img") < page.index("<em>four</em>") < page.index("Scale: tiny. Protocol: modern.")
    assert "test split (the split that is reported" in page and "Means over 2 seeds." in page
    assert _kept(page) == {"figure9.csv": "x,y\n1,2\n"}


def test_a_caption_is_one_line_with_title_notes_and_origin(tmp_path: Path) -> None:
    caption = caption_of(_table(tmp_path), "table9")
    assert caption.title == "Table 9: two ways & <more>" and "\n" not in caption.html
    for text in ("two ways &amp; &lt;more&gt;</strong>", "Best in bold.", "lntune trace table9"):
        assert text in caption.html
    assert "<table>" not in caption.html


def test_the_paper_comes_first_and_alphabetical_order_is_its_order() -> None:
    mixed = ["mine", "figureA4", "comparison", "table2", "tableA1", "claims", "figure1", "table1", "another", "figure2"]
    names = in_order(mixed)
    assert names == [
        "figure1", "table1", "table2", "figure2", "tableA1", "figureA4", "claims", "comparison", "another", "mine",
    ]  # fmt: skip
    labels = [label(name, mixed) for name in names]
    assert labels == sorted(labels)
    assert labels[:2] == ["01 Figure 1", "02 Table 1"] and labels[4] == "11 Table A1" and labels[-1] == "19 Mine"
    assert label("table1", ["table1"]) == "02 Table 1"  # its place in the paper, whatever else is made
    assert [category(name) for name in names] == sorted(category(name) for name in names)
