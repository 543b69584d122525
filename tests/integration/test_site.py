"""The site of a finished checkout: what it holds, when it is stale, and how it is used in a real browser."""

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from checkout import Checkout, ask_for
from chromium import Browser, absent, find_chromium
from lntune.commands.trace.cell import trace_cell
from lntune.commands.verify.findings import Basis, Findings
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.plan.targets import targets_of
from lntune.site.behind import curves, evenly
from lntune.site.items import Item
from lntune.site.record import RECORD, is_right
from lntune.store.identity import hash_file
from lntune.store.manifest import MANIFEST, content_digest, read_manifest, write_manifest
from site_pictures import take

pytestmark = pytest.mark.slow

FINETUNE, LAYERNORM = "Finetune-80K", "LayerNorm-Conv. 20K"
GROUP = "MM-VICUNA-7B"
HOSTILE = "<img src=x onerror=\"document.title='hostile'\"><script>document.title='hostile'</script>"
HOSTILE_TITLE = "LayerNorm <img src=x onerror=document.title='hostile'>"
COLUMNS = ("MME", "VQAv2", "MSCOCO", "Flickr30k", "POPE")
ALIKE = """\
figure: heat-maps
title: "Alike: similarity of the layers"
llms: [vicuna-7b]
rows: [{title: Finetune, method: finetune, data: 80K}]
"""
AXE = Path(os.environ.get("LNTUNE_AXE", "/usr/local/share/axe-core/axe.min.js"))


@pytest.fixture(scope="module")
def finished(made: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the finished checkout with a hostile title and hostile answers, verified, and its site."""
    root = tmp_path_factory.mktemp("site") / "checkout"
    shutil.copytree(made.root, root, symlinks=True)
    checkout = Checkout(root)
    checkout.edit("workflow/report_items/tiny.yaml", LAYERNORM, json.dumps(HOSTILE_TITLE))
    checkout.edit("config.yaml", "[tiny]", "[tiny, blind, alike]")
    (root / "workflow/report_items/alike.yaml").write_text(ALIKE, encoding="utf-8")
    checkout.snakemake("-c1", "tables/tiny.csv", "figures/alike.csv")
    for folder in checkout.results("predict"):  # as if a model had answered so
        if "layernorm" in folder.name and "mscoco" in folder.name:
            lines = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
            said = [json.dumps(json.loads(line) | {"answer": HOSTILE}) + "\n" for line in lines]
            _replace(folder, "answers.jsonl", "".join(said))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        plan = _plan()
        Findings(Basis(plan, targets_of(plan, ["tiny"]))).keep()
    checkout.snakemake("-c1", "site/index.html")
    return checkout


def _replace(folder: Path, name: str, text: str) -> None:
    (folder / name).unlink()
    (folder / name).write_text(text, encoding="utf-8")
    manifest = read_manifest(folder / MANIFEST)
    record = manifest.outputs[name].model_copy(update={"bytes": len(text.encode()), "blake3": hash_file(folder / name)})
    outputs = {**manifest.outputs, name: record}
    (folder / MANIFEST).unlink()
    changed = manifest.model_copy(update={"outputs": outputs, "content": content_digest(outputs)})
    write_manifest(folder / MANIFEST, changed)


def _plan() -> Plan:
    return Plan(Study.read(Path(".")))


@pytest.fixture
def site(finished: Checkout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its folder; the test works in the checkout."""
    monkeypatch.chdir(finished.root)
    return finished.root / "site"


def data(site: Path, name: str) -> Any:
    """A piece of data, as a page reads it."""
    found = re.fullmatch(r'lntune\("(.+?)", (".*")\)\n', (site / f"data/{name}.js").read_text("ascii"))
    assert found and found[1] == name and "<" not in found[2]
    return json.loads(json.loads(found[2]))


class Tables(HTMLParser):
    """The tables of a page, line by line: of each cell its text and where it leads; and all tags with attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tables: list[list[list[list[str]]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = self._beside = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(["", ""])
            self._inside = True
        elif tag == "a" and self._inside:
            self.tables[-1][-1][-1][1] = given["href"] or ""
        elif given.get("class") == "beside":
            self._beside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._inside = self._beside = False

    def handle_data(self, data: str) -> None:
        if self._inside and not self._beside:
            self.tables[-1][-1][-1][0] += data.strip("\n")


def key_of(href: str) -> tuple[str, ...]:
    return tuple(map(unquote, href.removeprefix("#").split("/")))


# --- what it holds ---------------------------------------------------------------------------------------------------


def test_every_field_of_every_csv_is_shown_and_every_number_of_a_model_leads_to_what_it_was_made_from(
    site: Path,
) -> None:
    results = {
        str(path.relative_to(site / "data/results")).removesuffix(".js") for path in site.glob("data/results/*/*")
    }
    for item in ("tiny", "claims", "comparison", "data"):
        with (site.parent / f"tables/{item}.csv").open(newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        *_, ours = Tables(site / f"{item}.html").tables
        assert [[text for text, _ in line] for line in ours] == [header, *lines], item
    cells = {tuple(one["key"]): one for one in data(site, "cells/tiny")}
    shown, ours = Tables(site / "tiny.html").tables
    for line in ours[1:]:
        record = dict(zip([name for name, _ in ours[0]], line, strict=True))
        for column in (*COLUMNS, "learning_rate"):
            for name in [one for one in record if one == column or one.startswith(f"{column} ")]:
                text, href = record[name]
                assert key_of(href) == ("tiny", record["model"][0], record["method"][0], name) and text
            cell = cells[record["model"][0], record["method"][0], column]
            traced = trace_cell(Path("."), "tiny", record["method"][0], column)
            assert cell["value"] == record[column][0] == traced["value"]
            assert [one["result"] for one in cell["from"]] == [one["result"] for one in traced["from"]]
            assert key_of(traced["address"].partition("#")[2]) == ("tiny", *cell["key"])
            assert traced["results"].keys() <= results
    assert [text for text, _ in shown[0]] == ["Method", *COLUMNS] and shown[1][0][0] == GROUP
    for row, record in zip(shown[2:], ours[1:], strict=True):
        assert [text for text, _ in row] == [text for name, (text, _) in zip(ours[0], record, strict=True)
                                             if name[0] in ("method", *COLUMNS)]  # fmt: skip
        assert [key_of(href)[3] for _, href in row[1:]] == list(COLUMNS)


def test_a_result_is_shown_whole_and_its_way_leads_to_the_raw_files(site: Path) -> None:
    (start,) = next(one for one in data(site, "cells/tiny") if one["key"][1:] == [FINETUNE, "POPE"])["from"]
    waiting, seen = [start["result"]], dict[str, Any]()
    while waiting:
        if (name := waiting.pop()) not in seen:
            its = seen[name] = data(site, f"results/{name}")
            manifest = read_manifest(site.parent / "results" / name / MANIFEST)
            assert its["code"] == manifest.code and its["packages"] == manifest.packages
            assert its["outputs"].keys() == manifest.outputs.keys() and its["verified"] == ["all right"]
            assert (site / its["log"]).read_text() == (site.parent / f"logs/{name}.log").read_text()
            assert all(
                name in [one["result"] for one in data(site, f"results/{use['result']}")["into"]]
                for use in its["inputs"]
            )
            waiting += [use["result"] for use in its["inputs"]]
    raw = [file for its in seen.values() for file in its.get("raw", {}).get("files", [])]
    assert raw and all(re.fullmatch("[0-9a-f]{64}", file["sha256"]) for file in raw)


def test_answers_are_those_of_the_score_and_pictures_those_of_the_questions(site: Path) -> None:
    traced = trace_cell(Path("."), "tiny", FINETUNE, "VQAv2", show=1000)
    ours = data(site, f"answers/{traced['from'][0]['result']}")
    asked = data(site, f"questions/{ours['questions']}")
    examples = {one["id"]: one for one in traced["examples"][0]["shown"]}
    assert asked["questions"] == len(asked["shown"]) == len(examples) == ours["of"]
    assert ours["passed"] == traced["examples"][0]["passed"]
    for (id, picture, text, kind, right, image), (answer, _, passed, described) in zip(
        asked["shown"], ours["shown"], strict=True
    ):
        one = examples[id]
        assert [text, image, right] == [one["question"], one["image"], one["right"]]
        assert [answer, passed, described] == [one["answer"], one["passed"], one["described"]]
        assert kind in ("yes/no", "number", "other") and max(Image.open(site / picture).size) <= 160
    known = data(site, "asked")
    assert {len(scores) for scores in known.values()} == {2}
    assert {data(site, f"questions/{name}")["column"] for name in known} == {*COLUMNS}


def test_long_logs_are_thinned_out_and_end_where_they_end() -> None:
    lines = [
        json.dumps({"step": n, "loss": 1 / n, "grad_norm": 1.0, "norm_gradients": {"1.input": [0, n, 0, 0]}})
        for n in range(1, 2001)
    ]
    found = curves(lines)
    assert (found["steps"], len(found["step"]), found["step"][0], found["step"][-1]) == (2000, 300, 1, 2000)
    assert found["lines"].keys() == {"loss", "gradient norm"} and found["norms"]["1.input"][-1] == 2000
    assert evenly(range(5), 5) == [0, 1, 2, 3, 4] and evenly(range(9), 3) == [0, 4, 8]


def test_it_says_what_is_not_made_and_what_was_verified(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "Blind (<code>blind</code>)" in page and not (site / "blind.html").exists()
    assert "lntune verify</code> last ran on" in page and "verified 0 results" in page
    assert "This is the demo" in page


def test_the_first_table_takes_less_than_200_kb_and_pictures_wait_until_they_are_seen(site: Path) -> None:
    first = ("index.html", "tiny.html", "site.css", "site.js")
    assert sum((site / name).stat().st_size for name in first) < 200_000
    assert 'loading: "lazy"' in (site / "site.js").read_text(encoding="utf-8")


def test_every_table_of_the_repository_lies_where_its_layout_puts_it(site: Path) -> None:
    """Also where groups or rows stand side by side, and with rows from the literature."""
    (folder,) = (
        path for path in (site.parent / "results/table").iterdir() if (path / "tiny.csv").is_file() and _is_shown(path)
    )
    item = Item("tiny", folder, site.parent)
    for layout in ("groups-across", "rows-across"):
        settings = item._settings
        assert settings is not None
        moved = Item("tiny", folder, site.parent)
        moved.__dict__["_settings"] = settings.model_copy(update={"layout": layout})
        names = [FINETUNE, HOSTILE_TITLE]
        values = {key[1:]: cell["value"] for key, cell in item.cells.items()}
        if layout == "groups-across":
            lines = [[name, *(values[name, column] for column in COLUMNS)] for name in names]
        else:
            lines = [[GROUP, *(values[name, column] for name in names for column in COLUMNS)]]
        text = [f"| {' | '.join(line)} |" for line in [["" for _ in lines[0]], ["---" for _ in lines[0]], *lines]]
        moved.__dict__["_markdown"] = ("", [], text)
        for row in next(moved.tables()).rows:
            for cell in row[1:]:
                key = key_of(cell.href)
                assert values[key[2], key[3]] == str(cell.text)


def _is_shown(folder: Path) -> bool:
    return "img src" in (folder / "tiny.csv").read_text(encoding="utf-8")


# --- when it is stale ------------------------------------------------------------------------------------------------


def test_it_is_made_again_exactly_when_it_would_show_something_else(finished: Checkout, site: Path) -> None:
    assert finished.pending("site/index.html") == {}
    plan = _plan()
    assert is_right(plan)
    record = json.loads(RECORD.read_bytes())["files"]
    page, of_result = site / "tiny.html", next(name for name in record if name.startswith("data/results/predict"))
    manifest = next((site.parent / "results/select").glob("*/manifest.json"))
    log = next((site.parent / "logs/select").glob("*.log"))
    for file, edited in (
        (page, page.read_bytes().replace(b"Finetune-80K", b"Finetune-81K")), (site / of_result, None),
        (manifest, manifest.read_bytes() + b"\n"), (log, b"more"),
    ):  # fmt: skip
        before = file.read_bytes()
        file.unlink()
        if edited is not None:
            file.write_bytes(edited)
        assert not is_right(plan), file
        file.unlink(missing_ok=True)
        file.write_bytes(before)
        assert is_right(plan), file
    ask_for(site.parent / "config.yaml", "tiny")  # and no longer one that is not made
    assert not is_right(_plan())
    ask_for(site.parent / "config.yaml", "tiny", "blind", "alike")
    page.write_text(page.read_text(encoding="utf-8").replace("Finetune-80K", "Finetune-81K"), encoding="utf-8")
    (site / "CNAME").write_text("example.org\n")  # somebody else's, which stays
    assert finished.pending("site/index.html") == {"site": 1}
    finished.snakemake("-c1", "site/index.html")
    assert is_right(plan) and "Finetune-81K" not in page.read_text(encoding="utf-8") and (site / "CNAME").exists()


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    find_chromium()
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(opened: Browser, site: Path) -> Iterator[Browser]:
    """A browser of a desk's size; at the end nothing but the site was asked for, and nothing went wrong."""
    opened.size(1280, 800)
    opened.media(prefers_color_scheme="light")
    opened.requests.clear()
    opened.errors.clear()
    yield opened
    asked = [address for address in opened.requests if address != "about:blank"]
    assert asked and all(address.startswith(f"{site.as_uri()}/") for address in asked)
    assert opened.errors == []


PANEL = "document.getElementById('panel')"
LINK = "[...{}.querySelectorAll('a')].find((one) => one.textContent.includes({}))"


def link(text: str, within: str = PANEL) -> str:
    return LINK.format(within, json.dumps(text))


def cell_link(title: str, column: str) -> str:
    end = json.dumps(f"/{title}/{column}")
    return f"[...document.querySelectorAll('main td a')].find((one) => decodeURIComponent(one.hash).endsWith({end}))"


def heading(text: str) -> str:
    return f"!{PANEL}.hidden && {PANEL}.querySelector('h2')?.textContent.includes({json.dumps(text)})"


def test_from_a_cell_to_a_raw_file_in_clicks(browser: Browser, site: Path) -> None:
    browser.open((site / "index.html").as_uri())
    browser.click(link("Tiny: two ways", "document.querySelector('main')"))
    browser.wait("document.body.dataset.page === 'tiny'")
    browser.click(cell_link(FINETUNE, "POPE"))
    browser.wait(heading(f"POPE of {GROUP}: {FINETUNE}"))
    (raw,) = (path for path in (site.parent / "results/draw").iterdir() if path.name.startswith("pope-"))
    browser.click(
        f"[...{PANEL}.querySelectorAll('summary')].find((one) => one.textContent.startsWith('raw: draw/pope'))"
    )
    opened = (
        f"[...{PANEL}.querySelectorAll('details[open] > summary')].find((one) => one.textContent.startsWith('raw:'))"
    )
    browser.click(f"{opened}?.parentElement.querySelector('a')")
    browser.wait(heading(f"draw/{raw.name}"))
    text = browser.ask(f"{PANEL}.textContent")
    manifest = read_manifest(raw / MANIFEST)
    facts = data(site, f"results/draw/{raw.name}")["raw"]["files"]
    assert {file["name"] for file in facts} == set(manifest.outputs) and all(file["sha256"] in text for file in facts)
    browser.click(link("logs/draw/"))
    browser.wait("location.pathname.endsWith('.txt')")


def test_the_filter_and_two_models_side_by_side(browser: Browser, site: Path) -> None:
    (start,) = next(one for one in data(site, "cells/tiny") if one["key"][1:] == [FINETUNE, "MME"])["from"]
    ours, known = data(site, f"answers/{start['result']}"), data(site, "asked")
    asked = data(site, f"questions/{ours['questions']}")
    browser.open((site / "tiny.html").as_uri())
    browser.click(cell_link(FINETUNE, "MME"))
    browser.click(link("Questions, pictures"))
    browser.wait(f"{PANEL}.querySelector('.cards li')")

    def choose(id: str, value: str) -> int:
        browser.ask(f"document.getElementById({id!r}).value = {value!r}")
        browser.ask(f"document.getElementById({id!r}).dispatchEvent(new Event('change', {{bubbles: true}}))")
        return int(browser.ask(f"{PANEL}.querySelector('[role=status]').textContent.split(' ')[0]"))

    wrong = [place for place, one in enumerate(ours["shown"]) if not one[2]]
    assert (
        choose("marks", "false") == len(wrong) and browser.ask(f"{PANEL}.querySelectorAll('.cards .right').length") == 0
    )
    kind = asked["shown"][wrong[0]][3]
    assert choose("kinds", kind) == sum(asked["shown"][place][3] == kind for place in wrong)
    browser.wait(f"{PANEL}.querySelector('img').naturalWidth")
    other, title = next(one for one in known[ours["questions"]] if one[0] != start["result"])
    choose("models", other)
    browser.wait(heading(" and "))
    theirs = data(site, f"answers/{other}")
    differing = sum(a[1] != b[1] for a, b in zip(ours["shown"], theirs["shown"], strict=True))
    marks = browser.ask(
        f"[...{PANEL}.querySelectorAll('.cards li')].map((one) => "
        "[...one.querySelectorAll('.right, .wrong')].map((its) => its.className))"
    )
    assert 0 < differing < len(ours["shown"]) and title == f"{GROUP}: {HOSTILE_TITLE}"
    assert [one[0] != one[1] for one in marks] == [place < differing for place in range(len(marks))]
    browser.click(f"[...{PANEL}.querySelectorAll('button')].find((one) => one.textContent === 'Show more')")
    browser.wait(f"{PANEL}.querySelectorAll('.cards li').length === {len(ours['shown'])}")


def test_the_address_that_trace_prints_and_the_search_lead_to_the_number(browser: Browser, site: Path) -> None:
    traced = trace_cell(Path("."), "tiny", FINETUNE, "MSCOCO")
    assert traced["address"] == f"site/index.html#tiny/{GROUP}/{FINETUNE}/MSCOCO"
    browser.open(f"{site.parent.as_uri()}/{traced['address']}")
    browser.wait(heading(f"MSCOCO of {GROUP}: {FINETUNE}"))
    assert browser.ask(f"{PANEL}.querySelector('.value').textContent") == traced["value"]
    browser.ask("document.getElementById('words').focus()")
    browser.write("finetune-80k vqav2")
    browser.wait("document.querySelector('#found a')")
    browser.press("Enter")
    browser.wait(heading(f"VQAv2 of {GROUP}: {FINETUNE}"))
    browser.ask("location.hash = '#tiny/no/such/cell'")
    browser.wait(heading("Not here"))
    browser.ask("location.hash = '#!result/../../../etc/passwd'")
    browser.wait(f"{PANEL}.textContent.includes('no such address')")


def test_training_and_search(browser: Browser, site: Path) -> None:
    browser.open((site / "tiny.html").as_uri())
    browser.click("document.querySelector('main summary')")
    browser.click(cell_link(FINETUNE, "learning_rate"))
    browser.click(link("Training and search"))
    browser.wait(f"{PANEL}.querySelectorAll('svg polyline.chosen').length === 3")
    text = browser.ask(f"{PANEL}.textContent")
    (selection,) = (path for path in (site.parent / "results/select").iterdir() if "finetune" in path.name)
    for one in json.loads((selection / "selection.json").read_bytes())["candidates"]:
        assert f"{one['CIDEr']:.2f}" in text
    assert browser.ask(f"{PANEL}.querySelectorAll('svg[viewBox=\"0 0 640 240\"] polyline').length") == 2 * 3
    assert "Gradients of the norms" in text
    (alike,) = (site.parent / "results/similarity").glob("*-finetune-*/similarity.json")
    tokens = json.loads(alike.read_bytes())["tokens"]
    assert "Similarity of layers" in text and f"From similarity/{alike.parent.name}" in text
    for name, one in tokens.items():
        layers = len(one["matrix"])
        cells = f"{PANEL}.querySelectorAll('svg[aria-label^=\"Tokens: {name};\"] rect').length"
        assert browser.ask(cells) == layers**2 > 1


def test_with_the_keyboard_alone(browser: Browser, site: Path) -> None:
    browser.open((site / "tiny.html").as_uri())
    for _ in range(60):
        browser.press("Tab")
        if browser.ask("document.activeElement.hash?.endsWith('/Finetune-80K/MME')"):
            break
    browser.press("Enter")
    browser.wait(heading(f"MME of {GROUP}: {FINETUNE}"))
    browser.wait(f"document.activeElement === {PANEL}.querySelector('h2')")
    browser.press("Tab")
    assert browser.ask(f"{PANEL}.contains(document.activeElement)")
    browser.press("Escape")
    browser.wait(f"{PANEL}.hidden")
    assert browser.ask("document.activeElement.hash.endsWith('/Finetune-80K/MME')")


def test_hostile_titles_and_answers_are_text(browser: Browser, site: Path) -> None:
    for page in ("index.html", "tiny.html", "comparison.html"):
        tags = Tables(site / page).tags
        assert [given for tag, given in tags if tag == "script"] == [{"src": "site.js", "defer": None}]
        assert not any(name.startswith("on") or name == "style" for _, given in tags for name in given)
        assert not any(given.get("src") == "x" for _, given in tags)
    browser.open((site / "tiny.html").as_uri())
    browser.click(cell_link(HOSTILE_TITLE, "MSCOCO"))
    browser.wait(heading(HOSTILE_TITLE))
    browser.wait(f"{PANEL}.textContent.includes('CHANGED since it was used')")
    browser.click(link("Questions, pictures"))
    browser.wait(f"{PANEL}.querySelector('.cards q')?.textContent === {json.dumps(HOSTILE)}")
    assert browser.ask("document.querySelectorAll('img[src=x], script:not([src])').length") == 0
    assert browser.ask("document.title") == "Tiny: two ways to tune"


def test_without_javascript_the_tables_can_be_read(browser: Browser, site: Path) -> None:
    browser.javascript(allowed=False)
    try:
        browser.open((site / "tiny.html").as_uri())
        root = browser.send("DOM.getDocument", depth=-1)["root"]["nodeId"]
        row = browser.send("DOM.querySelector", nodeId=root, selector="main tbody tr:nth-child(2)")["nodeId"]
        assert FINETUNE in browser.send("DOM.getOuterHTML", nodeId=row)["outerHTML"]
        shown = browser.send("DOM.getBoxModel", nodeId=row)["model"]
        assert shown["width"] > 300 and shown["height"] > 10
    finally:
        browser.javascript(allowed=True)


def test_axe_finds_nothing_serious(browser: Browser, site: Path) -> None:
    """On every kind of page and of what opens, in light and dark, on a desk and a phone."""
    if not AXE.is_file():
        absent(f"{AXE}: axe-core is not there; as root, .ci/install-chromium installs it")
    (start,) = next(one for one in data(site, "cells/tiny") if one["key"][1:] == [FINETUNE, "POPE"])["from"]
    (selection,) = (path for path in (site.parent / "results/select").iterdir() if "finetune" in path.name)
    places = ["index.html", "bill.html", "claims.html", "comparison.html", f"tiny.html#tiny/{GROUP}/{FINETUNE}/POPE"]
    places += [
        f"tiny.html#!{one}"
        for one in (f"result/{start['result']}", f"questions/{start['result']}", f"model/select/{selection.name}")
    ]
    for place, (scheme, width) in zip(places, [("light", 1280), ("dark", 390)] * 4, strict=True):
        browser.size(width, 800, phone=width < 500)
        browser.media(prefers_color_scheme=scheme)
        browser.open(f"{site.as_uri()}/{place}")
        if "#" in place:
            browser.wait(f"!{PANEL}.hidden")
        browser.ask(AXE.read_text(encoding="utf-8") + ";0")
        found = browser.ask(
            "axe.run({preload: false}).then(({violations}) => "
            "violations.map((one) => [one.impact, one.id, one.nodes[0].html]))"
        )
        assert [one for one in found if one[0] in ("serious", "critical")] == [], place
        assert browser.ask("document.documentElement.scrollWidth <= innerWidth"), f"{place} is wider than the screen"


def test_six_pictures_of_it(browser: Browser, site: Path, tmp_path: Path) -> None:
    taken = take(browser, site, tmp_path, "tiny", GROUP, FINETUNE, "POPE")
    assert len(taken) == 6
    for path in taken:
        assert path.stat().st_size < 100_000
        assert len(Image.open(path).convert("RGB").getcolors(1 << 24) or ()) > 50
