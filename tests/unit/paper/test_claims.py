"""Claims: the formulas, the rule of agreement, the file in the repository, and the stage."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from lntune.config.load import load, validate
from lntune.config.report_item import RATE, ReportItem
from lntune.config.study import ScaleSettings
from lntune.errors import UserError
from lntune.paper.claims import Claim, Claims, Reading, agreement, assess, verdicts
from lntune.paper.formula import AbsentError, Formula, FormulaError, Tables
from lntune.paper.printed import Place, Printed, digests, paper_files, read_ours, read_paper
from lntune.plan.study import Study
from lntune.report.rows import rate_text
from lntune.stages.claims import COLUMNS, nearest, summary
from shown_results import parts_of, write_result
from stage_runs import refusal, run

FIGURES = {
    ("A", "new", "MME", "perception"): "110", ("A", "new", "MME", "cognition"): "30", ("A", "new", "VQAv2", ""): "12",
    ("A", "old", "MME", "perception"): "100", ("A", "old", "MME", "cognition"): "40", ("A", "old", "VQAv2", ""): "10",
    ("B", "new", "MME", "perception"): "90", ("B", "new", "MME", "cognition"): "20", ("B", "new", "VQAv2", ""): "9",
    ("B", "old", "MME", "perception"): "100", ("B", "old", "MME", "cognition"): "10", ("B", "old", "VQAv2", ""): "12",
    ("A", "none", "VQAv2", ""): "-", ("A", "1e-3", "rate", ""): "7", ("A", "3e-4", "rate", ""): "8",
}  # fmt: skip
TABLES = Tables(Printed(Place("t", *place), text) for place, text in FIGURES.items())
NAMES: dict[str, Any] = {"both": ("A", "B"), "two": 2.0}


def value(text: str) -> Any:
    return Formula(text).value(TABLES, NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('gain(pick("t", "new", "A", "VQAv2"), pick("t", "old", "A", "VQAv2"))', 20.0),
        ('mean(gain(pick("t", "new", both, "VQAv2"), pick("t", "old", both, "VQAv2")))', (20 - 25) / 2),
        ('gain(total(pick("t", "new", both, "VQAv2")), total(pick("t", "old", both, "VQAv2")))', 100 * (21 / 22 - 1)),
        ('lowest(points(pick("t", "new", both, "VQAv2"), pick("t", "old", both, "VQAv2")))', -3.0),
        ('mean(pick("t", "new", "A", ["MME.sum", "MME.mean", "MME.cognition"]))', (140 + 70 + 30) / 3),
        ('highest(mean(pick("t", ["new", "old"], both, "VQAv2"), by="row"))', 11.0),
        ('count(highest(pick("t", ["new", "old"], both, "VQAv2"), by="group, column"))', 2.0),
        ('mean(gain(pick("t", "new", "B", "VQAv2"), pick("t", "new", "A", "VQAv2")))', -25.0),
        ('below(points(pick("t", "new", both, "VQAv2"), pick("t", ["new", "old"], both, "VQAv2")), 0)', 1.0),
        ('above(pick("t", "new", both, "VQAv2"), 9)', 1.0),
        ('different(pick("t", "new", both, "VQAv2"), pick("t", "old", both, "VQAv2"))', 2.0),
        ('missing(pick("t", "old", both, "VQAv2"), pick("t", "new", both, "VQAv2"))', 1.0),
        ('count(pick("t", "every", "A", "VQAv2"))', 2.0),
        ('printed("-", "t", ["none", "new"], "A", "VQAv2")', 1.0),
        ('highest(row_titles(pick("t", "every", "A", "rate")))', 1e-3),
        ('row_of_highest(pick("t", "every", "A", "rate"))', 3e-4),
        ('median(pick("t", "every", "A", "rate")) * two - 1 / 4', 14.75),
        ('-pick("t", "new", "A", "VQAv2")', -12.0),
    ],
)  # fmt: skip
def test_a_formula_comes_to(text: str, expected: float) -> None:
    found = value(text)
    if isinstance(found, dict):
        (found,) = found.values()
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mean(", "cannot be read"),
        ("average(both)", "unknown function 'average' (known: mean,"),
        ('pick("t", "new", all, "VQAv2")', "unknown name 'all' (known: both, two)"),
        ('pick("t", "new", "A", "MME")', "MME is not one number: write one of MME.sum, MME.mean, MME.perception"),
        ('pick("t", "new", "A", "VQAv2.sum")', "VQAv2.sum: VQAv2 has no parts in t"),
        ('mean(pick("t", "new", both, "VQAv2"), by="model")', "unknown axis 'model' (known: group, row, column)"),
        ('pick("t", "new", both, "VQAv2") + 1', "arithmetic takes single numbers"),
        ('points(pick("t", "new", both, "VQAv2"), 1)', "cells and a single number"),
        ("mean(3)", "these are not what mean takes"),
        ('gain(pick("t", "new", both, ["VQAv2", "MME.sum"]), pick("t", "new", both, ["VQAv2", "MME.mean"]))',
         "there is nothing to match with A, new, MME.sum"),
        ('row_titles(pick("t", "new", both, "VQAv2"))', "row_titles: could not convert"),
        ("__import__('os').system('true')", "unknown function"),
        ("both.__class__", "'both.__class__' is not allowed"),
        ("[x for x in both]", "is not allowed"),
        ("(lambda: 1)()", "unknown function 'lambda: 1'"),
        ("two ** 999999", "is not allowed"),
        ("True", "is not allowed"),
    ],
)  # fmt: skip
def test_what_a_formula_must_not_be(text: str, complaint: str) -> None:
    with pytest.raises(FormulaError) as raised:
        value(text)
    assert complaint in str(raised.value) and not isinstance(raised.value, AbsentError)


@pytest.mark.parametrize(
    "text",
    [
        'pick("t", "new", "C", "VQAv2")',
        'pick("u", "new", "A", "VQAv2")',
        'pick("t", "none", "A", "VQAv2")',
        'pick("t", "every", "C", "VQAv2")',
        'printed("-", "t", "new", "C", "VQAv2")',
        "1 / 0",
        "gain(1, 0)",
    ],
)
def test_what_is_not_there(text: str) -> None:
    with pytest.raises(AbsentError):
        value(text)


def claim(**given: Any) -> Claim:
    return Claim(**{"id": "a", "place": "p", "claim": "c", "kind": "relative", "value": "2.5"} | given)


@pytest.mark.parametrize(
    ("claimed", "relation", "found", "verdict"),
    [
        ("18.4", "equal", 18.474, "cut off"), ("18.4", "equal", 18.449, "yes"), ("18.4", "equal", 18.5, "no"),
        ("41.9", "equal", 41.86, "yes"), ("-2.5", "equal", -2.489, "yes"), ("-2.5", "equal", -2.56, "cut off"),
        ("2.5", "equal", -2.5, "no"), ("0.004", "equal", 0.004, "yes"), ("10", "about", 10.5, "cut off"),
        ("8.2", "at least", 8.17, "yes"), ("8.2", "at least", 8.1, "no"), ("20", "over", 20.0, "no"),
        ("20", "over", 20.01, "yes"), ("0", "under", 0.0, "no"), ("18.9", "at most", 18.94, "yes"),
        ("2e-3", "equal", 0.002, "yes"), ("3e-6", "equal", 6e-4, "no"), ("2.5", "equal", None, ""),
        ("0.3", "equal", 0.1 + 0.2, "yes"),
    ],
)  # fmt: skip
def test_the_rule_of_agreement(claimed: str, relation: Any, found: float | None, verdict: str) -> None:
    assert agreement(claim(value=claimed, relation=relation), found) == verdict


def claims_of(**given: Any) -> Claims:
    names = {"both": ("A", "B"), "first": ("A",)}
    return Claims(unprinted=("f",), constants={"one": 1.0}, names=names, claims=(claim(**given),))


def test_readings_are_computed_for_every_choice() -> None:
    claims = claims_of(
        vary={"llms": ("first", "both"), "unused": ("first", "both")},
        let={"new": 'pick("t", "new", llms, "VQAv2")', "old": 'pick("t", "old", llms, "VQAv2")'},
        readings={"mean": "mean(gain(new, old))", "least": "lowest(gain(new, old))", "constant": "one + 1.5"},
    )
    ours = Tables(Printed(Place("t", "A", row, "VQAv2", ""), text) for row, text in (("new", "41"), ("old", "40")))
    found = assess(claims, paper=TABLES, ours=ours)
    assert [(one.name, one.paper, one.agrees, one.ours, one.ours_agrees) for one in found] == [
        ("mean; first", pytest.approx(20.0), "no", pytest.approx(2.5), "yes"),
        ("mean; both", pytest.approx(-2.5), "no", None, ""),
        ("least; first", pytest.approx(20.0), "no", pytest.approx(2.5), "yes"),
        ("least; both", pytest.approx(-25.0), "no", None, ""),
        ("constant", 2.5, "yes", None, ""),
    ]
    assert found[1].formula.startswith("mean(gain(new, old)) where llms = both, new = pick(")
    assert verdicts(found) == {"a": "some readings"} and nearest(found).name == "constant"


def test_what_the_words_do_not_say_is_told_apart() -> None:
    given = {"vary": {"llms": ("first", "both")}, "readings": {"r": 'mean(pick("t", "new", llms, "VQAv2"))'}}
    for beyond, value, verdict, worded in (
        (("both",), "10.5", "other words", [True, False]),
        (("first",), "10.5", "agrees", [False, True]),
        ((), "10.5", "some readings", [True, True]),
        (("both",), "13", "no reading", [True, False]),
        (("r",), "12", "other words", [False, False]),
    ):
        found = assess(claims_of(**given, beyond=beyond, value=value), paper=TABLES, ours=Tables([]))
        assert (verdicts(found), [one.worded for one in found]) == ({"a": verdict}, worded), (beyond, value)
    with pytest.raises(UserError, match="a: beyond: 'al' is none of r, first, both"):
        assess(claims_of(**given, beyond=("al",)), paper=TABLES, ours=Tables([]))


def test_what_the_paper_does_not_print_stays_open() -> None:
    found = assess(claims_of(readings={"bars": 'mean(pick("f", "x", both, "VQAv2"))'}), paper=TABLES, ours=Tables([]))
    assert [(one.paper, one.agrees) for one in found] == [(None, "")] and verdicts(found) == {"a": "not printed"}
    ours = Tables(Printed(Place("f", group, "x", "VQAv2", ""), "5") for group in "AB")
    (one,) = assess(claims_of(readings={"bars": 'mean(pick("f", "x", both, "VQAv2"))'}), paper=TABLES, ours=ours)
    assert one.ours == 5.0
    assert verdicts(assess(claims_of(kind="setting"), paper=TABLES, ours=ours)) == {"a": "setting"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            {"readings": {"r": "mean(x)"}},
            "workflow/paper/claims.yaml: a: reading 'r': unknown name 'x' (known: one, both, first)",
        ),
        ({"readings": {"r": 'mean(pick("t", "nwe", first, "VQAv2"))'}}, "reading 'r': no cell t, A, nwe, VQAv2"),
        ({"readings": {"r": 'pick("t", "new", both, "VQAv2")'}}, "reading 'r': it must come to one number"),
        ({"readings": {"r": "q"}, "vary": {"q": ("all",)}}, "reading 'r': q varies over 'all', which is not among"),
        ({"readings": {"r": "q"}, "let": {"q": "mean(("}}, "reading 'r': cannot be read"),
    ],
)
def test_a_mistake_is_one_line_with_claim_and_reading(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError) as raised:
        assess(claims_of(**given), paper=TABLES, ours=Tables([]))
    assert complaint in str(raised.value)


def test_ids_are_unique_and_values_numbers(tmp_path: Path) -> None:
    both = Claims(unprinted=(), constants={}, names={}, claims=(claim(), claim()))
    with pytest.raises(UserError, match="a: two claims bear this id"):
        assess(both, paper=TABLES, ours=TABLES)
    data = {"unprinted": [], "constants": {}, "names": {}}
    wrong = {"id": "a", "place": "p", "claim": "c", "kind": "share", "value": "ten"}
    with pytest.raises(UserError, match=r"claims\[0\].value: expected a number in quotes"):
        validate(data | {"claims": [wrong]}, Claims, tmp_path / "claims.yaml")


# --- the file in the repository -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    files = paper_files(ROOT)
    figures = [one for name, path in files.items() if name.endswith(".csv") for one in read_paper(path)]
    return assess(load(files["claims.yaml"], Claims), paper=Tables(figures), ours=Tables([]))


def test_every_claim_has_its_verdict(readings: list[Reading]) -> None:
    found = verdicts(readings)
    said = {one.claim.id for one in readings if not one.claim.implied and one.name}
    assert len(said) >= 25
    assert list(found.values()).count("agrees") >= 20
    # Those that follow from Table 2.
    for name in ("abstract-parameters", "abstract-memory", "intro-simp-share", "parameters-simp-13b", "memory-oom",
                 "memory-layernorm-7b", "parameters-layernorm-13b", "tuning-share"):  # fmt: skip
        assert found[name] == ("some readings" if name == "tuning-share" else "agrees"), name
    for name in ("tuning-simp-mme", "less-mme", "less-data-captions", "less-data-mme", "similarity-lower",
                 "abstract-lora", "conclusion-parameters", "tuning-least-gain"):  # fmt: skip
        assert found[name] == "some readings", name
    for name in ("tuning-perception", "tuning-cognition", "intro-conversation-13b", "tuning-least-gain-exactly",
                 "rates-7b-lowest", "rates-13b-highest", "rates-best-7b", "rates-best-13b"):  # fmt: skip
        assert found[name] == "other words", name
    for name in ("intro-ten-times", "intro-simp-lora", "settings-lora-rank", "tuning-best", "tuning-simp-traditional",
                 "connector-layernorm-traditional", "connector-layernorm-mme", "connector-only-traditional",
                 "connector-only-mme", "vision-captions", "vision-mme", "rates-listed",
                 "repeated-table3", "settings-tf32-7b", "settings-tf32-13b"):  # fmt: skip
        assert found[name] == "no reading", name
    assert found["less-captions"] == "cut off" and found["intro-conversation"] == "not printed"


def _paper(readings: list[Reading], claim_id: str, name: str) -> float:
    (one,) = [one for one in readings if one.claim.id == claim_id and one.name == name]
    assert one.paper is not None
    return one.paper


def test_values_worked_out_by_hand(readings: list[Reading]) -> None:
    hand = {
        ("abstract-parameters", "LayerNorm's share against LoRA's; at 13B"): 100 * (1 - 2.50 / 4.30),
        ("abstract-memory", "LayerNorm against LoRA; at 13B"): 100 * (1 - 38.3 / 46.5),
        ("conclusion-parameters", "against full finetuning; at 13B"): 100 * (1 - 2.50 / 97.72),
        ("similarity-lower", "mean of the ratios"): 100 * (3 - 0.585 / 0.624 - 0.504 / 0.591 - 0.550 / 0.617) / 3,
        ("rates-listed", "count"): 3,
        ("repeated-table3", "of 80"): 1,
        ("less-captions", "mean of the ratios; both 13B"): 25 * sum(
            a / b - 1 for a, b in ((76.50, 73.88), (44.86, 45.33), (73.30, 64.19), (43.08, 41.82))
        ),
        ("connector-only-mme", "mean of the ratios; LLAMA2-7B alone; MME as a sum"): 100 * (416.5 / 783.9 - 1),
        ("tuning-best", "count; the four others; four tasks"): 2,
    }  # fmt: skip
    for (claim_id, name), expected in hand.items():
        assert _paper(readings, claim_id, name) == pytest.approx(expected), claim_id
    assert 63.5 < _paper(readings, "settings-lora-rank", "rank that Table 2's share needs, 7B") < 64.5


# --- names that claims.yaml and the report items share ----------------------------------------------------------------


def _rows(report_item: ReportItem, scale: ScaleSettings) -> Iterator[dict[str, str]]:
    """The rows of a table or figure as its CSV has them, every figure 1 but memory of what runs out of it."""
    parts = {column: "/".join("1" for _ in parts_of(column)) for column in report_item.columns}
    for group in report_item.llms:
        for row in report_item.rows:
            rates = scale.sweeps[row.method] if row.sweep else ()
            for title in [row.title.replace(RATE, rate_text(rate)) for rate in rates] or [row.title]:
                yield {"model": group.title or scale.llms[group.llm].title, "method": title, **parts}


def _ours_with_every_cell(folder: Path) -> tuple[dict[str, list[Printed]], set[str]]:
    """What the report items of the repository would show at the paper's scale, and the names of all of them."""
    study = Study.read(ROOT, {"scale": "paper"})
    found = {}
    for name in study.report_items():
        report_item = study.report_item(name)
        text = io.StringIO()
        records = list(_rows(report_item, study.scale))
        writer = csv.DictWriter(text, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
        found[name] = read_ours(name, write_result(folder / name, name, text.getvalue()))
    return found, set(found)


def test_every_cell_that_a_claim_asks_for_is_one_of_an_report_item(tmp_path: Path) -> None:
    """A row, group or column that no report item has would leave ours blank, and nobody would see why."""
    files = paper_files(ROOT)
    claims = load(files["claims.yaml"], Claims)
    figures = [one for name, path in files.items() if name.endswith(".csv") for one in read_paper(path)]
    ours, known = _ours_with_every_cell(tmp_path)
    every = Tables(one for its in ours.values() for one in its)
    blank = [
        (one.claim.id, one.name)
        for one in assess(claims, paper=Tables(figures), ours=every)
        if one.ours is None and one.formula and _asked(one.formula) and _asked(one.formula) <= known
    ]
    assert blank == []


def _asked(formula: str) -> set[str]:
    """The tables and figures whose cells a formula asks for."""
    return set(re.findall(r'(?:pick\(|printed\("[^"]*", )"([^"]+)"', formula))


def test_all_that_claims_ask_for_are_report_items() -> None:
    claims = load(ROOT / "workflow/paper/claims.yaml", Claims).claims
    asked = {name for one in claims for text in (*one.let.values(), *one.readings.values()) for name in _asked(text)}
    assert asked - {"learning-rates"} <= {path.stem for path in (ROOT / "workflow/report_items").glob("*.yaml")}


def test_figures_of_the_paper_have_ours_at_its_scale(tmp_path: Path) -> None:
    ours, known = _ours_with_every_cell(tmp_path)
    for name, path in paper_files(ROOT, claims=False).items():
        table = name.removesuffix(".csv")
        if table in known:
            lonely = {one.place for one in read_paper(path)} - {one.place for one in ours[table]}
            assert {place.group for place in lonely} <= {"Baseline models"} or {place.row for place in lonely} == {"-"}


# --- the stage ------------------------------------------------------------------------------------------------------

TABLE_2 = """\
model,method,Mem. (GB),#param.
13B scale,LoRA,40.0,5.00%
13B scale,LayerNorm,30.0,2.50%
"""


def stage(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Settings, inputs and paths: the repository's files, and a Table 2 of our own."""
    made = write_result(folder / "table2-result", "table2", TABLE_2)
    files = paper_files(ROOT)
    settings = {"files": digests(files), "tables": ("table2",), "scale": "demo", "scale_note": "", "protocol": "modern"}
    return settings, {"tables": (made,)}, {name: str(path) for name, path in files.items()}


def test_the_stage_writes_both_files(tmp_path: Path) -> None:
    settings, inputs, paths = stage(tmp_path)
    metrics = run(tmp_path / "claims", "claims", settings, inputs, paths=paths)
    with (tmp_path / "claims" / "claims.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS and metrics["readings"] == len(rows)
    found = {(row["id"], row["reading"]): row for row in rows}
    row = found["abstract-parameters", "LayerNorm's share against LoRA's; at 13B"]
    assert (row["paper_tables_yield"], row["agrees"], row["ours"], row["ours_agrees"]) == (
        "41.860",
        "yes",
        "50.000",
        "no",
    )
    row = found["abstract-parameters", "LayerNorm's share against LoRA's; at 7B"]
    assert (row["paper_tables_yield"], row["ours"]) == ("36.149", "")
    text = (tmp_path / "claims" / "claims.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + metrics["claims"] and all(line.count(" | ") == 7 for line in lines)
    assert "Ours: table2. Scale: demo." in text and summary_counts(text) == metrics["claims"]
    run(tmp_path / "again", "claims", settings, inputs, paths=paths)
    for name in ("claims.csv", "claims.md"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "claims" / name).read_bytes()


def summary_counts(text: str) -> int:
    (line,) = [line for line in text.splitlines() if " claims: " in line]
    numbers = [int(word) for word in line.replace(",", " ").replace(";", " ").split() if word.isdigit()]
    assert numbers[0] == sum(numbers[1:])
    return numbers[0]


def test_the_stage_refuses_other_files_than_were_planned(tmp_path: Path) -> None:
    settings, inputs, paths = stage(tmp_path)
    edited = tmp_path / "table2.csv"
    edited.write_text((ROOT / "workflow/paper/table2.csv").read_text().replace("46.5", "46.6"))
    said = refusal(tmp_path / "a", "claims", settings, inputs, paths=paths | {"table2.csv": str(edited)})
    assert "was edited since the run started" in said and "table2.csv" in said
    said = refusal(tmp_path / "b", "claims", settings, inputs, paths=paths | {"claims.yaml": str(tmp_path / "no")})
    assert "restore it" in said


def test_an_empty_summary_says_so() -> None:
    assert summary([]).startswith("0 claims")
