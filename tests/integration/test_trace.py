"""``lntune trace`` on a real checkout at a tiny scale: from a cell to the raw files, whatever has become of them."""

import csv
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from checkout import Checkout
from lntune.benchmarks.captions.formats import read_split
from lntune.benchmarks.mme import score as mme_score
from lntune.benchmarks.pope import score as pope_score
from lntune.benchmarks.vqav2 import score as vqav2_score
from lntune.commands.trace.cell import trace_cell
from lntune.commands.trace.text import trace_text
from lntune.errors import UserError

pytestmark = pytest.mark.slow

ROW = "Finetune-80K"
BENCHMARKS = ("MME", "VQAv2", "MSCOCO", "Flickr30k", "POPE")
Found = dict[str, Any]
Trace = Callable[..., Found]


@pytest.fixture
def trace(made: Checkout, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Traces a cell of the finished checkout."""
    monkeypatch.chdir(made.root)
    return lambda row=ROW, column="POPE", table="tiny", **given: trace_cell(Path("."), table, row, column, **given)


@pytest.fixture
def trace_copy(copy: Checkout, monkeypatch: pytest.MonkeyPatch) -> Trace:
    """Traces a cell of the copy that the test edits."""
    monkeypatch.chdir(copy.root)
    return lambda row=ROW, column="POPE", table="tiny", **given: trace_cell(Path("."), table, row, column, **given)


def published(checkout: Checkout) -> list[dict[str, str]]:
    with (checkout.root / "tables/tiny.csv").open() as file:
        return list(csv.DictReader(file))


def the(found: Found, stage: str, label: str = "") -> Found:
    """The one result of a stage (and of a label's beginning) behind a cell."""
    names = [name for name in found["results"] if name.startswith(f"{stage}/{label}")]
    assert len(names) == 1, names
    result: Found = found["results"][names[0]]
    return result | {"name": names[0]}


def chosen(found: Found) -> Found:
    """The chosen candidate of the selection behind a cell."""
    (one,) = [one for one in the(found, "select")["selection"]["candidates"] if one["chosen"]]
    candidate: Found = one
    return candidate


def reached(found: Found) -> Iterator[str]:
    """The names on the way down from the cell, as often as they are met."""
    waiting = [one["result"] for one in found["from"]]
    while waiting:
        name = waiting.pop()
        yield name
        waiting += [given["result"] for given in found["results"][name]["inputs"]]


def rewrite(path: Path, **changes: object) -> None:
    """Change a finished result's manifest, which is not to be written to."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.unlink()
    path.write_text(json.dumps(content), encoding="utf-8")


# --- what is found ---------------------------------------------------------------------------------------------------


def test_every_cell_of_the_table_is_traced_to_its_value(made: Checkout, trace: Trace) -> None:
    for record in published(made):
        for column in (*BENCHMARKS, "learning_rate"):
            found = trace(record["method"], column)
            assert found["value"] == record[column] and found["notes"] == []
            assert found["row"] == f"{record['model']}: {record['method']}"


def test_the_way_leads_over_every_stage_to_the_raw_files(trace: Trace) -> None:
    found = trace()
    names = list(reached(found))
    assert set(names) == set(found["results"]) and found["from"][0]["result"].startswith("score-pope/")
    ways = {
        "score-pope",
        "predict",
        "select",
        "finetune",
        "connector",
        "encode",
        "prepare",
        "questions-pope",
        "draw",
        "fetch",
    }
    assert ways <= {name.split("/")[0] for name in names}
    assert all("inputs" in one and one["state"] == "there" for one in found["results"].values())
    ends = [one for one in found["results"].values() if not one["inputs"]]
    assert {one["stage"] for one in ends} == {"draw", "fetch"}
    selection = the(found, "select")
    assert len(selection["selection"]["candidates"]) == 2 and selection["settings"]["learning_rates"] == [2e-3, 5e-4]
    assert chosen(found)["learning_rate"] == float(trace(column="learning_rate")["value"])


def test_raw_files_have_the_sha256_that_they_have_and_a_licence(made: Checkout, trace: Trace) -> None:
    seen = 0
    for column in BENCHMARKS:
        for name, one in trace(column=column)["results"].items():
            for file in one.get("raw", {"files": ()})["files"]:
                stored = made.root / "results" / name / file["name"]
                assert file["sha256"] == hashlib.sha256(stored.read_bytes()).hexdigest(), stored
                seen += 1
                if one["stage"] == "fetch":
                    assert (made.root / file["path"]).read_bytes() == stored.read_bytes()
                    assert one["raw"]["licence"] == "Apache-2.0"
                else:
                    assert "drawn by lntune from seed 0" in one["raw"]["about"]
                    assert one["raw"]["licence"] == "the project's own"
    assert seen > 30


def test_the_text_names_everything_once_within_120_columns(trace: Trace) -> None:
    found = trace(show=3)
    text = trace_text(found)
    assert max(map(len, text.splitlines())) <= 120
    assert text.startswith(f"tiny | MM-VICUNA-7B: Finetune-80K | POPE = {found['value']}")
    in_full = [line for line in text.splitlines() if re.search(r": [a-z0-9-]+/", line) and "(above)" not in line]
    llm = the(found, "fetch", "demo-vicuna")
    assert sum(llm["name"] in line for line in in_full) == 1 and f"{llm['name']}  (above)" in text
    for file in llm["raw"]["files"]:
        assert text.count(f"{file['sha256']}  {file['name']}") == 1
    assert "from workflow/weights/vicuna-7b" in text and "licence: Apache-2.0" in text
    other = next(one for one in the(found, "select")["selection"]["candidates"] if not one["chosen"])
    line = f"not chosen, learning rate {other['learning_rate']:g}, CIDEr {other['CIDEr']:.2f}: {other['result']}"
    assert line in text and f"CIDEr {chosen(found)['CIDEr']:.2f}: {chosen(found)['result']}" in text


def test_what_prepare_dropped_is_told(trace: Trace) -> None:
    text = trace_text(trace("LayerNorm-Conv. 20K", "VQAv2"))
    assert re.search(r"32 samples kept, dropped: \d+ ", text)


def test_the_learning_rates_tree_has_the_scores_that_it_was_chosen_by(trace: Trace) -> None:
    found = trace(column="LEARNING_RATE")
    assert found["from"][0]["result"].startswith("select/")
    assert f"its score: {chosen(found)['score']}" in trace_text(found)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [ROW, f"MM-VICUNA-7B: {ROW}", f"MM-VICUNA-7B/{ROW}", "finetune-80k", "mm-vicuna-7b/FINETUNE-80K"],
)
@pytest.mark.parametrize("table", ["tiny", "tables/tiny.csv", "tables/tiny.md"])
def test_rows_and_tables_go_by_all_their_names(trace: Trace, row: str, table: str) -> None:
    assert trace(row, "pope", table)["row"] == "MM-VICUNA-7B: Finetune-80K"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"column": "POP"}, "has no column 'POP'; did you mean 'POPE'?"),
        ({"column": "ScienceQA"}, "there are MME; VQAv2; MSCOCO; Flickr30k; POPE; MME 95% interval; "),
        ({"column": "protocol"}, "'protocol' is no number to be traced; there are MME;"),
        ({"row": "Finetune"}, "has no row 'Finetune'; did you mean 'Finetune-80K'"),
        ({"row": "MM-VICUNA-13B: Finetune-80K"}, "did you mean 'MM-VICUNA-7B: Finetune-80K'"),
        ({"row": "xyz"}, "there are MM-VICUNA-7B: Finetune-80K; MM-VICUNA-7B: LayerNorm-Conv. 20K"),
        ({"table": "tables/tiny.png"}, "there is none; there are tables/tiny.csv, tables/tiny.md, tables/tiny.tex"),
        ({"table": "table1", "row": "Finetune"}, "tables/table1.csv: not made yet under this config; run `snakemake"),
        (
            {"column": "learning_rate", "show": 1},
            "learning_rate of MM-VICUNA-7B: Finetune-80K has no questions to show",
        ),
    ],
)
def test_a_wrong_name_is_answered_with_the_near_ones(trace: Trace, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        trace(**given)


def test_a_title_of_two_groups_is_ambiguous_and_intervals_are_columns(copy: Checkout) -> None:
    scale = copy.yaml("workflow/scales/tiny.yaml")
    scale["llms"]["again"] = scale["llms"]["vicuna-7b"] | {"title": "MM-AGAIN"}
    copy.write_yaml("workflow/scales/tiny.yaml", scale)
    copy.edit("workflow/report_items/tiny.yaml", "[vicuna-7b]", "[vicuna-7b, again]\nintervals: true")
    copy.snakemake("-c1", "tables/tiny.csv")
    said = copy.run("lntune", "trace", "tiny", "finetune-80k", "POPE", code=1)
    assert "2 rows are called 'finetune-80k'; name one of: MM-VICUNA-7B: Finetune-80K; MM-AGAIN: Finetune-80K" in said
    found = json.loads(copy.run("lntune", "trace", "tiny", "MM-AGAIN/Finetune-80K", "vqav2 95% Interval", "--json"))
    assert found["column"] == "VQAv2 95% interval" and found["from"][0]["result"].startswith("score-vqav2/")
    assert found["value"] == published(copy)[2]["VQAv2 95% interval"]


# --- what became of it -----------------------------------------------------------------------------------------------


def test_a_checkpoint_that_was_deleted_is_named_and_the_way_goes_on(copy: Checkout, trace_copy: Trace) -> None:
    before = trace_copy()
    name = chosen(before)["result"]
    shutil.rmtree(copy.root / "results" / name)
    found = trace_copy()
    assert found["value"] == before["value"] and found["results"][name]["state"] == "deleted"
    assert set(found["results"]) == set(before["results"])  # the plan knows what it was made from
    content = before["results"][name]["content"]
    text = trace_text(found)
    assert f"{name}  (deleted since)" in text and f"the hash of its content was {content}" in text


def test_a_score_that_was_deleted_is_named_and_the_way_goes_on(copy: Checkout, trace_copy: Trace) -> None:
    before = trace_copy()
    (score,) = before["from"]
    shutil.rmtree(copy.root / "results" / score["result"])
    found = trace_copy()
    assert found["value"] == before["value"] == score["value"] and set(found["results"]) == set(before["results"])
    told = f"score: {score['result']}  (deleted since)\n│  the hash of its content was {score['content']}\n"
    assert told in trace_text(found) and score["content"] == before["results"][score["result"]]["content"]
    assert found["from"] == [score | {"value": None}]


def test_a_damaged_manifest_is_one_line(copy: Checkout, trace_copy: Trace) -> None:
    name = the(trace_copy(), "connector")["name"]
    path = copy.root / "results" / name / "manifest.json"
    text = path.read_text()
    path.unlink()
    path.write_text(text[:1000])
    told = trace_text(trace_copy())
    assert f"connector: {name}  (damaged)" in told and "damaged manifest" in told and "draw/pretrain" in told


def test_files_that_are_others_than_were_used_are_noticed(copy: Checkout, trace_copy: Trace) -> None:
    name = the(trace_copy(), "prepare", "80K")["name"]
    rewrite(copy.root / "results" / name / "manifest.json", content="0" * 64)
    drawn = the(trace_copy(), "draw", "pope")["name"]
    (copy.root / "results" / drawn / "coco_pope_random.json").unlink()
    text = trace_text(trace_copy())
    assert "CHANGED since it was used" in text
    assert "CHANGED or deleted since it was made:  coco_pope_random.json" in text


def test_linked_results_say_where_from_and_who_computed_them(copy: Checkout) -> None:
    path = copy.root / "src/lntune/benchmarks/pope/questions.py"
    path.write_text(path.read_text() + "\nNOTHING_TO_SEE = 0\n")
    before = {path.name for path in copy.results("predict")}
    copy.snakemake("-c2", "tables/tiny.csv")
    found = json.loads(copy.run("lntune", "trace", "tiny", ROW, "POPE", "--json"))
    answers = the(found, "predict", "vicuna-7b-finetune-80K-pope")
    origin = answers["origin"]
    assert f"{origin['label']}-{origin['id']}" in before and answers["name"].split("/")[1] not in before
    linked = f"linked from predict/{origin['label']}-{origin['id']} on {origin['linked'][:10]}; computed then:"
    assert linked in " ".join(copy.run("lntune", "trace", "tiny", ROW, "POPE").replace("│", " ").split())


def test_the_word_that_a_result_rests_on_is_told(copy: Checkout, trace_copy: Trace) -> None:
    edit = {
        "stage": "predict",
        "because": "only renamed",
        "date": "2026-01-02",
        "code": {"lntune.model.generate": {"was": "a", "now": "b"}},
        "packages": {"torch": {"was": "1", "now": "2"}},
    }
    rewrite(
        copy.root / "results" / the(trace_copy(), "predict", "vicuna-7b-finetune-80K-pope")["name"] / "manifest.json",
        accepted=[edit],
    )
    told = 'declared equivalent: "only renamed" (2026-01-02, of lntune.model.generate, torch)'
    assert told in trace_text(trace_copy())


def test_a_fetched_file_has_its_address(copy: Checkout, trace_copy: Trace) -> None:
    clip = the(trace_copy(), "fetch", "demo-clip")
    places = {file["name"]: {"url": f"https://example.org/clip/{file['name']}"} for file in clip["raw"]["files"]}
    rewrite(copy.root / "results" / clip["name"] / "manifest.json", execution=clip["execution"] | {"places": places})
    found = trace_copy()
    (first, *_), told = the(found, "fetch", "demo-clip")["raw"]["files"], trace_text(found)
    assert first["url"] == "https://example.org/clip/open_clip_config.json"
    assert "from https://example.org/clip, by sha256:" in told


@pytest.mark.parametrize("file", ["tables/tiny.csv", "tables/tiny.md", "tables/tiny.tex"])
def test_a_table_edited_by_hand_is_noticed_and_the_results_value_traced(
    copy: Checkout, trace_copy: Trace, file: str
) -> None:
    value = trace_copy(column="VQAv2")["value"]
    path = copy.root / file
    path.write_text(path.read_text().replace(value, "99.99"))
    found = trace_copy(column="VQAv2")
    assert found["value"] == value
    if file.endswith("tex"):
        assert found["notes"][0].startswith(f"{file} was edited by hand and has ") and " in line " in found["notes"][0]
    else:
        said = f"{file} was edited by hand and has 99.99 here; `snakemake {file}` mends it"
        assert found["notes"] == [said] and trace_text(found).startswith(f"note: {said}\ntiny | ")
        assert "and has the same here" in trace_copy(column="POPE")["notes"][0]
    path.write_text("")
    said = "no such cell" if file.endswith("csv") else '"" in line 1, not '
    assert f"and has {said}" in trace_copy(column="POPE")["notes"][0]
    path.unlink()
    assert trace_copy()["notes"] == [f"{file} is not published; `snakemake {file}` does it"]


def test_a_table_of_another_config_is_noticed(copy: Checkout, trace_copy: Trace) -> None:
    (made,) = copy.results("table")
    other = made.with_name("tiny-" + 12 * "0")
    shutil.copytree(made, other)
    rewrite(other / "manifest.json", id=12 * "0")
    text = (made / "tiny.csv").read_text().replace("Finetune-80K", "Finetune")
    (other / "tiny.csv").unlink()
    for path in (other / "tiny.csv", copy.root / "tables/tiny.csv"):
        path.write_text(text)
    (note,) = trace_copy()["notes"]
    assert (
        note
        == "tables/tiny.csv is of another config or code and has no such cell; `snakemake tables/tiny.csv` mends it"
    )


def test_a_table_that_is_not_made_yet_is_traced_as_it_was_published(copy: Checkout, trace_copy: Trace) -> None:
    before = trace_copy()
    copy.edit("workflow/report_items/tiny.yaml", "two ways to tune", "two ways")
    found = trace_copy()
    assert (found["value"], found["result"]) == (before["value"], before["result"])
    (note,) = found["notes"]
    assert note.startswith(
        f"traced is {before['result']}, of another config or code; `snakemake tables/tiny.csv` makes"
    )


# --- questions with their scores --------------------------------------------------------------------------------------


def test_all_questions_scores_together_make_the_cell(trace: Trace) -> None:
    shown = {column: trace(column=column, show=1000) for column in BENCHMARKS}
    marks = {
        column: {one["id"]: one["score"] for one in found["examples"][0]["shown"]} for column, found in shown.items()
    }
    assert all(len(marks[column]) == shown[column]["examples"][0]["questions"] for column in BENCHMARKS)
    kinds = ("popular", "random", "adversarial")
    pope = [100 * mean(mark for id, mark in marks["POPE"].items() if id.startswith(f"{kind}/")) for kind in kinds]
    assert "/".join(f"{value:.1f}" for value in pope) == shown["POPE"]["value"]
    assert f"{100 * mean(marks['VQAv2'].values()):.2f}" == shown["VQAv2"]["value"]
    for column in ("MSCOCO", "Flickr30k"):
        assert f"{mean(mark['CIDEr'] for mark in marks[column].values()):.2f}" == shown[column]["value"]
    scores = {
        task: mme_score.score_subtask([mark for id, mark in marks["MME"].items() if id.startswith(f"{task}/")])["score"]
        for task in mme_score.ALL
    }
    sums = (sum(scores[task] for task in tasks) for tasks in (mme_score.PERCEPTION, mme_score.COGNITION))
    assert "/".join(f"{value:.1f}" for value in sums) == shown["MME"]["value"]


def test_scores_are_those_that_the_answers_deserve(made: Checkout, trace: Trace) -> None:
    for one in trace(column="POPE", show=1000)["examples"][0]["shown"]:
        assert one["score"] == one["passed"] == ([pope_score.parse_answer(one["answer"])] == one["right"])
    for one in trace(column="MME", show=1000)["examples"][0]["shown"]:
        assert one["score"] == (mme_score.parse_response(one["answer"]) == one["right"][0].lower())
    for one in trace(column="VQAv2", show=1000)["examples"][0]["shown"]:
        assert len(one["right"]) == 10
        assert one["score"] == vqav2_score.accuracy(one["answer"], tuple(one["right"]))
    (drawn,) = made.root.glob("results/draw/flickr30k-*")
    images: list[Any] = read_split(drawn, "flickr30k")
    raw = {f"flickr30k-images/{one['filename']}": one["sentences"] for one in images}
    captions = trace(column="Flickr30k", show=1000)["examples"][0]
    for one in captions["shown"]:
        assert one["right"] == [sentence["raw"] for sentence in raw[one["image"]]]
    grades = [one["score"]["CIDEr"] for one in captions["shown"]]
    assert grades == sorted(grades, reverse=True)


@pytest.mark.parametrize("column", BENCHMARKS)
def test_a_few_questions_are_some_right_and_some_wrong(made: Checkout, trace: Trace, column: str) -> None:
    found = trace(column=column, show=4)
    assert trace(column=column, show=4) == found
    (examples,) = found["examples"]
    everything = trace(column=column, show=1000)["examples"][0]["shown"]
    assert len(examples["shown"]) == 4 and all(one in everything for one in examples["shown"])
    archive, text = made.root / examples["images"], trace_text(found)
    members = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", archive], capture_output=True, text=True, check=True
    )
    for one in examples["shown"]:
        assert f"<image>\n{one['question']}" in one["prompt"]
        assert repr(one["prompt"]) in " ".join(text.split()), "as the model was asked"
        assert one["image"] in members.stdout
        assert one["image"] in text and one["answer"].split(" ")[0] in text and one["described"] in text
    if column in ("MSCOCO", "Flickr30k"):
        assert examples["shown"][0] == everything[0] and examples["shown"][-1] == everything[-1]
        assert trace(column=column, show=2, wrong=True)["examples"][0]["shown"] == everything[-2:]
    else:
        assert examples["passed"] == sum(one["passed"] for one in everything)
        both = min(2, examples["passed"], examples["questions"] - examples["passed"])
        assert sum(one["passed"] for one in examples["shown"]) >= both
        assert sum(not one["passed"] for one in examples["shown"]) >= both
        wrong = trace(column=column, show=4, wrong=True)["examples"][0]["shown"]
        assert wrong and not any(one["passed"] for one in wrong)


def test_questions_whose_answers_were_deleted(copy: Checkout, trace_copy: Trace) -> None:
    answers = the(trace_copy(), "predict", "vicuna-7b-finetune-80K-pope")["name"]
    shutil.rmtree(copy.root / "results" / answers)
    found = trace_copy(show=2)
    assert found["examples"][0]["shown"] == []
    assert f"questions: results/{answers} is deleted since; there is nothing to show" in trace_text(found)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_takes_under_two_seconds_and_imports_nothing_heavy(made: Checkout) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    made.run("lntune", "trace", "tables/tiny.csv", ROW, "POPE")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The process's own seconds: those of a clock are others' as well on a busy machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    code = (
        "import sys; from pathlib import Path;"
        "from lntune.commands.trace.cell import trace_cell; from lntune.commands.trace.text import trace_text;"
        f"trace_text(trace_cell(Path('.'), 'tiny', {ROW!r}, 'POPE', show=5));"
        "print(sorted({'torch', 'transformers', 'pandas', 'deepspeed'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=made.root, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"PYTHONPATH": str(made.root / "src")},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
