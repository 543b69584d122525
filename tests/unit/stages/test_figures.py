"""The figures: files of the same bytes whoever draws them, legible, and showing what their CSV says."""

import csv
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

import figure_cases
from figure_cases import BARS, COSTS, DRAWINGS, GRADIENTS, HEAT_MAPS, NOTE, SAVED, drawn
from lntune.errors import UserError
from lntune.report.figure import SMALLEST, broken, categories, look, save, write_figure
from lntune.report.rows import ShownItemSettings
from lntune.stages import figure_bars, figure_cost, figure_gradients, figure_heat_maps
from lntune.stages.figure_gradients import scientific

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    figure_cases.write(folder)
    return folder


SETTINGS = ShownItemSettings(
    name="figure", title="Figure", note="", columns=(), rows=(), scale="demo", scale_note="tiny", protocol="modern",
    split="test", seeds=(0,), tokens=None, formats={},
)  # fmt: skip


def rows(figure: Figure, header: Sequence[str], records: Sequence[Sequence[object]], out: Path) -> list[dict[str, str]]:
    """What the CSV says that is written with a figure."""
    write_figure(out, SETTINGS, figure, header, records, [])
    with (out / "figure.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, Bbox]]:
    """Every text that is drawn: what it says, its size in points, and where it lies, in pixels."""
    found: list[tuple[str, float, Bbox]] = []
    draw = Text.draw

    def record(self: Text, renderer: object) -> None:
        if self.get_visible() and self.get_text().strip():
            found.append((self.get_text(), self.get_fontsize(), self.get_window_extent(renderer)))
        draw(self, renderer)

    with monkeypatch.context() as patched:
        patched.setattr(Text, "draw", record)
        with look():
            figure.draw_without_rendering()
    return found


# Files


@pytest.mark.parametrize("text", [r"$\foo$ & <b>", "a $ and b$c$", "--> & ]]>", "two\nlines", "Ünïcode ±√"])
def test_texts_of_a_figure_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with look():
        figure = Figure(figsize=(2, 1))
        figure.suptitle(text)
    assert [found for found, _, _ in drawn_texts(figure, monkeypatch)] == [text]
    save(figure, tmp_path, "figure", text)
    ElementTree.parse(tmp_path / "figure.svg")
    with Image.open(tmp_path / "figure.png") as image:
        image.load()
    assert image.info["Title"] == text


def test_panels_stand_where_the_solvers_last_bits_do_not_matter(tmp_path: Path) -> None:
    """It adds in the order of addresses in memory: one process in ten came to other bits, and so to another SVG."""
    figure = drawn("bars-missing")
    save(figure, tmp_path, "figure", "")
    bounds = [float(value) for axes in figure.axes for value in axes.get_position(original=True).bounds]
    assert bounds == [pytest.approx(round(value, 6), abs=1e-15) for value in bounds]


def test_another_process_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    """With another hash seed, time zone and home, and a matplotlibrc that wants everything else."""
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsavefig.dpi: 50\nfont.family: serif\nsvg.fonttype: none\n")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "MATPLOTLIBRC": str(tmp_path),
    }  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    script = str(ROOT / "tests/helpers/figure_cases.py")
    subprocess.run([sys.executable, script, str(out)], env=environment, cwd=tmp_path, check=True)
    names = {f"{name}.{suffix}" for name in SAVED for suffix in ("pdf", "svg", "png")}
    assert {one.name for one in out.iterdir()} == {one.name for one in saved.iterdir()} == names
    for name in sorted(names):
        assert (out / name).read_bytes() == (saved / name).read_bytes(), name


@pytest.mark.parametrize("name", SAVED)
def test_png_has_the_size_of_print_at_300_dpi(saved: Path, name: str) -> None:
    width, height = drawn(name).get_size_inches()
    with Image.open(saved / f"{name}.png") as image:
        image.load()
        assert image.size == (int(300 * width), int(300 * height))
        assert image.size[0] == 1650  # the width of the paper's text
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.info["Title"] == f"Figure {name}"
        assert "Software" not in image.info


@pytest.mark.parametrize("name", SAVED)
def test_svg_has_outlines_and_its_words(saved: Path, name: str) -> None:
    text = (saved / f"{name}.svg").read_text()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.attrib["width"] == "396pt"
    assert root.find("{http://www.w3.org/2000/svg}title").text == f"Figure {name}"
    assert not list(root.iter("{http://www.w3.org/2000/svg}text")), "a viewer without the font would set it otherwise"
    assert "<!-- Scale: demo. tiny" in text
    assert "dc:date" not in text


def pdf_text(path: Path) -> str:
    """The letters of a PDF of TrueType fonts, without the kerning between them."""
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", path.read_bytes(), re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        for shown in re.findall(rb"BT\n.*?ET", content, re.DOTALL):
            letters = b"".join(re.findall(rb"\(((?:[^()\\]|\\.)*)\)", shown))
            # A letter is two bytes.
            found.append(re.sub(rb"\\(.)", rb"\1", letters).replace(b"\0", b"").decode("latin1"))
    return "\n".join(found)


@pytest.mark.parametrize(("name", "word"), zip(SAVED, ("OOM", "cognition", "similarity", "step"), strict=True))
def test_pdf_holds_letters_in_a_truetype_font(saved: Path, name: str, word: str) -> None:
    content = (saved / f"{name}.pdf").read_bytes()
    assert content.startswith(b"%PDF-1.") and content.rstrip().endswith(b"%%EOF")
    assert b"DejaVuSans" in content and b"/FontFile2" in content and b"/Type3" not in content
    assert b"CreationDate" not in content
    assert word in pdf_text(saved / f"{name}.pdf") and NOTE[:12] in pdf_text(saved / f"{name}.pdf")


# Look


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_text_is_legible_inside_the_page_and_clear_of_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(name)
    texts = drawn_texts(figure, monkeypatch)
    assert any(text.startswith("Scale: demo. tiny") for text, _, _ in texts)
    for text, size, box in texts:
        assert size >= SMALLEST, text
        assert box.x0 >= -0.5 and box.y0 >= -0.5, text
        assert box.x1 <= figure.bbox.x1 + 0.5 and box.y1 <= figure.bbox.y1 + 0.5, text
    for (text, _, box), (other, _, its) in combinations(texts, 2):
        assert not box.padded(-0.5).overlaps(its.padded(-0.5)), (text, other)


def test_nothing_of_the_look_stays_behind() -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError, match="on the way"), look():
        font = Path(findfont(matplotlib.rcParams["font.family"][0]))
        assert font.resolve().is_relative_to(Path(matplotlib.get_data_path()).resolve())
        raise RuntimeError("on the way")
    drawn("cost-demo")
    assert dict(matplotlib.rcParams) == before


def luminance(colour: str) -> float:
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_categories_differ_without_their_colours() -> None:
    its = categories("abcdefgh")
    for (name, one), (other, two) in combinations(its.items(), 2):
        assert one.colour != two.colour and one.marker != two.marker, (name, other)
        assert one.hatch != two.hatch or abs(luminance(one.colour) - luminance(two.colour)) > 0.1, (name, other)
    for one in its.values():
        # What a hatch is drawn in is black.
        assert not one.hatch or luminance(one.colour) > 0.13
    with pytest.raises(UserError, match="8 things apart, and is given 9"):
        categories("abcdefghi")


def test_lines_are_broken_where_words_end() -> None:
    assert broken("MM-LLAMA2-CHAT-13B", 5) == ["MM-LLAMA2-CHAT-13B"]
    assert broken("MM-LLAMA2-CHAT-13B", 0.45) == ["MM-", "LLAMA2-", "CHAT-", "13B"]
    assert broken("one two", 0.1) == ["one", "two"]


@pytest.mark.parametrize(("value", "text"), [(3.21e-6, "3.2×10⁻⁶"), (0.0, "0"), (25.0, "2.5×10¹"), (-0.5, "-5.0×10⁻¹")])
def test_scientific(value: float, text: str) -> None:
    assert scientific(value) == text


# What is drawn is what the CSV says


@pytest.mark.parametrize("name", COSTS)
def test_costs(name: str, tmp_path: Path) -> None:
    data = COSTS[name]
    figure = figure_cost.draw_cost(data)
    shown = {}
    for axes in figure.axes:
        places = axes.get_yticks()
        ticks = dict(zip(places, axes.yaxis.get_major_formatter().format_ticks(places), strict=True))
        for line in axes.lines:
            if not line.get_label().startswith("_"):
                (share,), (memory,) = line.get_data()
                shown[axes.get_title(), line.get_label()] = (share, ticks.get(memory) == "OOM" or memory)
                assert axes.get_xlim()[0] < share < axes.get_xlim()[1]
                assert axes.get_ylim()[0] <= memory < axes.get_ylim()[1]
                assert data.capacity_gb is None or ticks.get(memory) != "OOM" or memory > data.capacity_gb
    written = rows(figure, figure_cost.CSV_HEADER, figure_cost.csv_rows(data), tmp_path)
    assert list(written[0]) == ["model", "method", "Mem. (GB)", "#param.", "scale"]
    assert {(row["model"], row["method"]) for row in written} == set(shown)
    for row in written:
        share, memory = shown[row["model"], row["method"]]
        assert row["#param."] == f"{share:g}%" and row["scale"] == "demo"
        assert row["Mem. (GB)"] == ("OOM" if memory is True else f"{memory:g}")


def test_the_papers_costs_are_those_of_table_2(tmp_path: Path) -> None:
    records = figure_cost.csv_rows(COSTS["cost-paper"])
    found = rows(Figure(layout="constrained"), figure_cost.CSV_HEADER, records, tmp_path)
    written = {(row["model"], row["method"]): row for row in found}
    assert len(written) == 12
    assert written["7B scale", "LayerNorm-simp."]["#param."] == "0.004%"
    assert written["13B scale", "Attn. QV Proj."]["Mem. (GB)"] == "OOM"
    assert written["7B scale", "LoRA"]["Mem. (GB)"] == "29.4"


@pytest.mark.parametrize("name", BARS)
def test_bars(name: str, tmp_path: Path) -> None:
    data = BARS[name]
    figure = figure_bars.draw_bars(data)
    written = rows(figure, figure_bars.csv_header(data), figure_bars.csv_rows(data), tmp_path)
    assert [(row["model"], row["method"]) for row in written] == [(m, r) for m in data.models for r in data.rows]
    assert [axes.get_title() for axes in figure.axes] == [one.column for one in data.benchmarks]
    looks = categories(data.rows)
    for axes, benchmark in zip(figure.axes, data.benchmarks, strict=True):
        assert axes.get_ylim()[0] == 0, "bars that start elsewhere lie"
        bar_rows = [one for one in axes.containers if isinstance(one, BarContainer)]
        whiskers = [tuple(end) for one in axes.collections for end in one.get_segments()[0].tolist()]
        expected = []
        for r, (title, its) in enumerate(zip(data.rows, bar_rows, strict=True)):
            for m, patch in enumerate(its.patches):
                cell = written[m * len(data.rows) + r]
                assert (patch.get_hatch() or "", patch.get_facecolor()) == (
                    looks[title].hatch,
                    to_rgba(looks[title].colour),
                )
                if cell[benchmark.column] == "-":
                    assert patch.get_height() != patch.get_height()
                    assert [(one.get_text(), one.get_position()[0]) for one in axes.texts] == [
                        ("-", pytest.approx(_middle(patch)))
                    ]
                    continue
                assert f"{patch.get_height():.{benchmark.decimals}f}" == cell[benchmark.column]
                assert patch.get_height() < axes.get_ylim()[1]
                bounds = benchmark.scores[m][r].interval
                if bounds is not None:
                    assert cell[f"{benchmark.column} 95% interval"] == "..".join(
                        f"{one:.{benchmark.decimals}f}" for one in bounds
                    )
                    expected += [(_middle(patch), one) for one in bounds]
        assert sorted(whiskers) == [pytest.approx(one) for one in sorted(expected)]


def _middle(patch: Rectangle) -> float:
    return float(patch.get_x() + patch.get_width() / 2)


@pytest.mark.parametrize("name", HEAT_MAPS)
def test_heat_maps(name: str, tmp_path: Path) -> None:
    data = HEAT_MAPS[name]
    figure = figure_heat_maps.draw_heat_maps(data)
    written = rows(figure, figure_heat_maps.CSV_HEADER, figure_heat_maps.csv_rows(data), tmp_path)
    layers = len(data.maps[0].similarity)
    assert list(written[0]) == ["model", "method", "layer", "other_layer", "similarity", "scale"]
    assert len(written) == len(data.maps) * layers**2
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == len(data.maps)
    assert len({image.get_clim() for image in images}) == 1, "one colour scale"
    low, high = images[0].get_clim()
    assert (low, high) == ((-0.2 if name == "heat-4" else 0.0), 1.0)
    values = iter(written)
    for image, one in zip(images, data.maps, strict=True):
        assert f"mean similarity {one.mean:.3f}" in image.axes.get_title()
        assert image.origin == "lower" and image.get_extent() == [0.5, layers + 0.5] * 2
        array = image.get_array()
        for layer in range(layers):
            for other in range(layers):
                row = next(values)
                assert (row["method"], row["layer"], row["other_layer"]) == (one.method, f"{layer + 1}", f"{other + 1}")
                assert float(row["similarity"]) == pytest.approx(array[layer, other], rel=1e-5)
        cells = {one.get_position(): one.get_text() for one in image.axes.texts}
        assert len(cells) == (layers**2 if layers <= 6 else 0)
        for (x, y), text in cells.items():
            assert float(text.replace("−", "-")) == pytest.approx(array[y - 1, x - 1], abs=0.0051)
        assert {1, layers} <= set(image.axes.get_xticks())


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str, tmp_path: Path) -> None:
    data = GRADIENTS[name]
    figure = figure_gradients.draw_gradients(data)
    written = rows(figure, figure_gradients.CSV_HEADER, figure_gradients.csv_rows(data), tmp_path)
    assert len(written) == len(data.series) * len(data.series[0].steps)
    panels = {axes.get_title().split("\n")[0]: axes for axes in figure.axes}
    outside = False
    for one in data.series:
        axes = panels[f"{one.method}, {one.norm} norm"]
        its = [row for row in written if (row["method"], row["norm"]) == (one.method, one.norm)]
        steps = [int(row["step"]) for row in its]
        column = {key: [float(row[key]) for row in its] for key in ("mean", "standard_deviation", "minimum", "maximum")}
        assert axes.get_title().endswith(f"variance {scientific(float(its[0]['variance']))}")
        assert axes.lines[0].get_xdata().tolist() == steps
        assert axes.lines[0].get_ydata() == pytest.approx(column["mean"], rel=1e-5)
        drawn_extremes, drawn_deviation = map(_outline, axes.collections)
        both = list(zip(steps, column["mean"], column["standard_deviation"], strict=True))
        extremes = zip(steps, column["minimum"], column["maximum"], strict=True)
        assert drawn_extremes == {step: pytest.approx(bounds, rel=1e-4) for step, *bounds in extremes}
        assert drawn_deviation == {
            step: pytest.approx([mean - wide, mean + wide], rel=1e-4, abs=1e-4 * wide) for step, mean, wide in both
        }
        low, high = axes.get_ylim()
        assert all(low <= mean - wide and mean + wide <= high for _, mean, wide in both)
        outside |= bool(min(column["minimum"]) < low or max(column["maximum"]) > high)
    for norm in dict.fromkeys(one.norm for one in data.series):
        assert len({axes.get_ylim() for title, axes in panels.items() if title.endswith(f", {norm} norm")}) == 1
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("smallest to largest element (cut off)" in labels) is outside is (name in CUT)


CUT = {"gradients-one-norm", "gradients-two-norms", "gradients-large"}


def _outline(band: PolyCollection) -> dict[float, list[float]]:
    """Step to where a band begins and ends above it."""
    found: dict[float, list[float]] = {}
    for step, value in band.get_paths()[0].vertices.tolist():
        found.setdefault(step, []).append(value)
    return {step: [min(values), max(values)] for step, values in found.items()}
