"""lntune verify: names every file that is off, and exactly the cells that rest on it; a real store, made tiny."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkout import Checkout, run_python
from lntune.benchmarks.captions.words import tokenize
from lntune.commands.verify.check import tokenized_before
from lntune.commands.verify.findings import Cell, cells_text, differing_cells
from lntune.report.published import difference, differing_values
from lntune.report.rows import Row, ShownItemSettings
from lntune.site.record import VERIFIED
from lntune.store.fingerprint import source_digest
from lntune.store.identity import hash_tree
from lntune.store.manifest import MANIFEST, content_digest, read_manifest, write_manifest

TABLE = "tables/tiny.csv"
COLUMNS = ("MME", "VQAv2", "MSCOCO", "Flickr30k", "POPE")
FINETUNE, LAYERNORM = "MM-VICUNA-7B: Finetune-80K", "MM-VICUNA-7B: LayerNorm-Conv. 20K"
FINETUNE_ROW = {(FINETUNE, column) for column in (*COLUMNS, "learning_rate")}
LAYERNORM_ROW = {(LAYERNORM, column) for column in (*COLUMNS, "learning_rate")}
ALL = FINETUNE_ROW | LAYERNORM_ROW

VERIFY = """
import signal, sys
from pathlib import Path
from lntune.commands.verify.check import verify
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
verify(Path("."), sys.argv[1:], jobs=2)
"""

slow = pytest.mark.slow


def surroundings(checkout: Checkout, temporary: str) -> dict[str, str]:
    """The environment of the checkout's own code; temporary files are in this folder beside it."""
    (folder := checkout.root.with_name(temporary)).mkdir(exist_ok=True)
    return os.environ | {"PYTHONPATH": str(checkout.root / "src"), "TMPDIR": str(folder)}


def start(checkout: Checkout, *targets: str) -> subprocess.Popen[str]:
    """Verify by two processes, in the background."""
    environment, pipe = surroundings(checkout, "temporary"), subprocess.PIPE
    command = [sys.executable, "-c", VERIFY, *targets]
    return subprocess.Popen(command, cwd=checkout.root, env=environment, text=True, stdout=pipe, stderr=pipe)


def run_verify(checkout: Checkout, temporary: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``lntune verify``."""
    environment = surroundings(checkout, temporary)
    return run_python(checkout.root, environment, "lntune", "verify", *arguments, apart=True)


def verified(checkout: Checkout, *targets: str, jobs: int = 1) -> dict[str, Any]:
    """The report; ``problems`` by path below the store, each as its text and its cells."""
    done = run_verify(checkout, "temporary", "--json", f"--jobs={jobs}", *targets)
    assert done.returncode in {0, 1}, done.stderr
    assert os.listdir(checkout.root.with_name("temporary")) == []
    report: dict[str, Any] = json.loads(done.stdout)
    report["text"] = json.loads((checkout.root / VERIFIED).read_text())["text"]
    report["problems"] = {
        problem["path"].removeprefix("results/"): (
            "; ".join(problem["what"]),
            {(cell["row"], cell["column"]) for cell in problem["cells"]},
        )
        for problem in report["problems"]
    }
    return report


def cells(report: dict[str, Any]) -> dict[str, set[tuple[str, str]]]:
    return {path: found for path, (_, found) in report["problems"].items()}


def one(checkout: Checkout, stage: str, *words: str) -> Path:
    """The one result of a stage whose label has all these words."""
    (found,) = (path for path in checkout.results(stage) if all(word in path.name for word in words))
    return found


def name(path: Path) -> str:
    """A path below the store."""
    return str(path)[str(path).index("/results/") + len("/results/") :]


def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
    """Replace a file by one of another content: what is linked to the old one keeps it."""
    old = path.read_bytes()
    new = edit(old)
    assert new != old
    path.unlink()
    path.write_bytes(new)


def flip(path: Path) -> None:
    """Change the last bit as a disk may, in place: what is linked to the file changes with it."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def edit_json(path: Path, edit: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    edit(document)
    change(path, lambda _: json.dumps(document).encode())


def make_consistent(folder: Path) -> None:
    """Have a manifest say what its files are now, as one would who covers a forgery."""
    outputs = hash_tree(folder, ignore=[MANIFEST])
    update = {"outputs": outputs, "content": content_digest(outputs)}
    write_manifest(folder / MANIFEST, read_manifest(folder / MANIFEST).model_copy(update=update))


def another_answer(old: bytes) -> bytes:
    """The first answer, in other words."""
    first, rest = old.split(b"\n", 1)
    record = json.loads(first)
    record["answer"] = "No" if "yes" in record["answer"].lower() else "Yes"
    return json.dumps(record).encode() + b"\n" + rest


# --- a store that is right ---------------------------------------------------------------------------------------


@slow
def test_all_is_right_after_a_run(made: Checkout) -> None:
    report = verified(made, jobs=2)
    assert report["problems"] == {}
    stored = [path for path in (made.root / "results").glob("[a-z]*/*/**/*") if path.is_file()]
    counts = report["verified"]
    assert counts["results"] == sum(path.name == MANIFEST for path in stored)
    inodes = {path.stat().st_ino: path.stat().st_size for path in stored if path.name != MANIFEST}
    assert (counts["files"], counts["bytes"]) == (len(inodes), sum(inodes.values()))
    assert counts["scores"] == 3 + 2 * 5
    assert report["text"].splitlines()[-1].endswith(": all right")
    (note,) = report["notes"]
    assert "results were linked instead of computed; the results that did the work are there for " in note


def rerun(checkout: Checkout, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the report and what was said meanwhile."""
    done = run_verify(checkout, "reruns", "--json", *arguments)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def marks(folder: Path) -> dict[str, int]:
    """Every file and folder of a store, the moment of its last change with it."""
    return {str(path): path.lstat().st_ctime_ns for path in folder.rglob("*")}


@slow
def test_results_that_are_made_again_are_equal_and_the_store_is_as_it_was(made: Checkout) -> None:
    prompted, before = one(made, "predict", "layernorm", "pope"), marks(made.root / "results")
    asked = ("--rerun", f"predict/{prompted.name}", "--rerun", "2")
    code, report, said = rerun(made, *asked, "--rerun-seed", "7")
    assert (code, report["problems"]) == (0, [])
    first, *drawn = report["reruns"]
    assert first == f"predict/{prompted.name}: equal, 1 file"
    assert len(drawn) == 2 and all(": equal, " in line and not line.startswith(("fetch", "score")) for line in drawn)
    assert f"predict/{prompted.name}: making it again, 1 of 3" in said
    assert any("by --rerun-seed 7" in note for note in report["notes"])
    assert marks(made.root / "results") == before
    assert not list(made.root.with_name("reruns").glob("lntune-*"))


@slow
def test_a_result_that_its_inputs_do_not_give_is_found_though_all_hashes_agree(copy: Checkout) -> None:
    """As one whose weights were drawn at random; it was made on another machine, which is said, too."""
    folder = one(copy, "finetune", "layernorm")
    change(folder / "metrics.jsonl", lambda old: old.replace(b'"loss": ', b'"loss": 1', 1))
    make_consistent(folder)
    edit_json(folder / MANIFEST, lambda document: document["machine"].update(cpu="Abacus"))
    code, report, _ = rerun(copy, "tables/tiny.csv", "--rerun", f"finetune/{folder.name}")
    assert code == 1
    (line,) = report["reruns"]
    assert line.startswith(f"finetune/{folder.name}: differs in metrics.jsonl when made again, as in ")
    assert "; it was made on Abacus, now on " in line
    (problem,) = (problem for problem in report["problems"] if problem["path"].endswith(f"{folder.name}/metrics.jsonl"))
    assert problem["what"][0].startswith("is not what its inputs give: it has ") and problem["cells"]
    (kept,) = copy.root.with_name("reruns").glob(f"*/finetune/{folder.name}")
    assert (kept / "tuned.safetensors").read_bytes() == (folder / "tuned.safetensors").read_bytes()


@slow
def test_what_cannot_be_made_again_is_one_line(made: Checkout) -> None:
    fetched = made.results("fetch")[0]
    code, _, said = rerun(made, "--rerun", f"fetch/{fetched.name}")
    assert code == 1
    assert said.splitlines()[-1] == (
        f"error: --rerun fetch/{fetched.name}: it comes from elsewhere, and was hashed; name another result"
    )


@slow
def test_what_a_target_does_not_need_is_not_looked_at(copy: Checkout) -> None:
    score = one(copy, "score-vqav2", "layernorm")
    flip(one(copy, "predict", "layernorm", "pope") / "answers.jsonl")
    report = verified(copy, f"score-vqav2/{score.name}")
    assert report["problems"] == {} and report["verified"]["scores"] == 1 + 1  # its own and its selection's
    done = run_verify(copy, "temporary", "score-vqav2/nothing-0123456789ab")
    assert "is no result of this config" in done.stderr.splitlines()[-1]


# --- files that are off ------------------------------------------------------------------------------------------


@slow
def test_a_published_file_whose_results_file_is_gone_is_named(copy: Checkout) -> None:
    (table,) = copy.results("table")
    (table / "tiny.csv").unlink()
    problems = verified(copy, "tables/tiny.csv")["problems"]
    gone, _ = problems["tables/tiny.csv"]
    assert gone == f"cannot be held against results/table/{table.name}/tiny.csv, which is not there"
    assert f"table/{table.name}/tiny.csv" in problems


@slow
def test_changed_bytes_are_named_with_the_cells_that_rest_on_them(copy: Checkout) -> None:
    checkpoint = one(copy, "finetune", "layernorm") / "tuned.safetensors"
    chosen = one(copy, "select", "layernorm") / "chosen/tuned.safetensors"
    assert chosen.samefile(checkpoint)
    flip(checkpoint)
    answers = one(copy, "predict", "finetune", "pope") / "answers.jsonl"
    change(answers, another_answer)
    drawn = max(one(copy, "draw", "mme").rglob("*.*"), key=lambda path: path.stat().st_size)
    flip(drawn)
    report = verified(copy, TABLE)
    score = one(copy, "score-pope", "finetune")
    kind = json.loads(answers.read_text().splitlines()[0])["id"].split("/")[0]
    consequences = {f"{name(score)}/{file}" for file in ("scores.json", "per_item_scores.json")}
    expected = {
        name(checkpoint): LAYERNORM_ROW,
        name(answers): {(FINETUNE, "POPE")},
        f"{name(score)}/coco_pope_{kind}_answers.jsonl": {(FINETUNE, "POPE")},
        name(drawn): {(FINETUNE, "MME"), (LAYERNORM, "MME")},
    }
    found = cells(report)
    assert {path: found[path] for path in found.keys() - consequences} == expected
    assert all(found[path] == {(FINETUNE, "POPE")} for path in consequences & found.keys())
    assert "does not hold the bytes that its manifest says" in report["problems"][name(drawn)][0]
    text = report["text"]
    assert f"{name(checkpoint)}: does not hold the bytes that its manifest says; the same file is " in text
    assert f"the same file is results/{name(chosen)}\n    tiny: {LAYERNORM}: the whole row\n" in text
    assert "\n    tiny: MME of all 2 rows\n" in text
    assert text.endswith(f"{len(found)} problems")


@slow
def test_missing_surplus_and_damaged_files(copy: Checkout) -> None:
    marks = one(copy, "score-mme", "finetune") / "per_item_scores.json"
    marks.unlink()
    surplus = one(copy, "predict", "layernorm", "vqav2") / "deep/notes.txt"
    surplus.parent.mkdir()
    surplus.write_text("mine")
    damaged = one(copy, "predict", "layernorm", "mscoco") / MANIFEST
    change(damaged, lambda old: old[: len(old) // 2])
    linked = one(copy, "prepare", "80K")
    (file,) = (path for path in linked.iterdir() if path.name == "samples.jsonl")
    shutil.copy(file, copy.root / "elsewhere")
    file.unlink()
    file.symlink_to(copy.root / "elsewhere")
    report = verified(copy, TABLE)
    assert cells(report) == {
        name(marks): {(FINETUNE, "MME")},
        name(surplus): {(LAYERNORM, "VQAv2")},
        name(damaged): {(LAYERNORM, "MSCOCO")},
        name(file): FINETUNE_ROW,
        name(one(copy, "table")): ALL,  # which needs the marks, and so cannot be made again
    }
    texts = {path: what for path, (what, _) in report["problems"].items()}
    assert texts[name(marks)] == "is missing" and texts[name(surplus)] == "does not belong here"
    assert texts[name(damaged)].startswith("damaged manifest")
    assert texts[name(file)] == "is a link or a device; a result holds plain files alone; is missing"


# --- forgeries that keep the hashes in order ---------------------------------------------------------------------


@slow
def test_a_score_that_its_answers_do_not_give(copy: Checkout) -> None:
    folder = one(copy, "score-vqav2", "layernorm")
    true = json.loads((folder / "scores.json").read_text())["overall"]
    edit_json(folder / "scores.json", lambda scores: scores.update(overall=99.5))
    make_consistent(folder)
    report = verified(copy, TABLE)
    table = name(one(copy, "table"))
    found = cells(report)
    assert found.pop(f"{table}/tiny.md") >= {(LAYERNORM, "VQAv2")}  # and what is bold beside it
    assert found.pop(f"{table}/tiny.tex") == ALL  # which is not read as cells
    concerned = {(LAYERNORM, "VQAv2")}
    assert found == {
        f"{name(folder)}/{MANIFEST}": concerned,
        f"{name(folder)}/scores.json": concerned,
        f"{table}/tiny.csv": concerned,
        f"{table}/cells.json": concerned,
    }
    what = report["problems"][f"{name(folder)}/scores.json"][0]
    assert what == f"is not what its inputs give: it has overall 99.5, not {true}"
    assert f"does not hold what {table} was made from" in report["problems"][f"{name(folder)}/{MANIFEST}"][0]


@slow
def test_a_score_and_a_table_that_were_forged_together(copy: Checkout) -> None:
    """The chain is in order; only what the answers give is not."""
    folder, table = one(copy, "score-captions", "layernorm", "mscoco"), one(copy, "table")
    value = json.loads((folder / "scores.json").read_text())["CIDEr"]
    edit_json(folder / "scores.json", lambda scores: scores.update(CIDEr=321.0))
    make_consistent(folder)
    manifest = json.loads((table / MANIFEST).read_text())
    (record,) = (one for one in manifest["inputs"]["scores"] if f"{one['label']}-{one['id']}" == folder.name)
    content = read_manifest(folder / MANIFEST).content
    change(table / MANIFEST, lambda old: old.replace(record["content"].encode(), content.encode()))
    for file in (table / "tiny.csv", table / "tiny.md", table / "tiny.tex", table / "cells.json"):
        change(file, lambda old: old.replace(f"{value:.2f}".encode(), b"321.00"))
        if file.name != "cells.json":
            shutil.copy(file, copy.root / "tables" / file.name)
    make_consistent(table)
    found = cells(verified(copy, "tiny"))
    assert found.pop(f"{name(table)}/tiny.md", set()) <= {(row, "MSCOCO") for row in (FINETUNE, LAYERNORM)}
    found.pop(f"{name(table)}/tiny.tex", None)  # if another number is bold
    assert found == {f"{name(folder)}/scores.json": {(LAYERNORM, "MSCOCO")}}


@slow
def test_edited_manifests_and_replaced_inputs(copy: Checkout) -> None:
    edited = one(copy, "connector") / MANIFEST
    edit_json(edited, lambda manifest: manifest["settings"].update(seed=7))
    renamed = one(copy, "questions-pope")
    moved = renamed / MANIFEST
    edit_json(moved, lambda manifest: manifest.update(label="pop"))
    answers = one(copy, "predict", "layernorm", "mme")
    change(answers / "answers.jsonl", another_answer)
    make_consistent(answers)
    words = one(copy, "tokenize-references", "mscoco")
    edit_json(words / "words.json", lambda images: images[0].update(references=["forged"]))
    make_consistent(words)
    select = one(copy, "select", "finetune")
    edit_json(select / "selection.json", lambda selection: selection.update(learning_rate=0.25))
    report = verified(copy, TABLE)
    problems = report["problems"]
    what, rests = problems[name(edited)]
    assert "does not make the id" in what and "(seed was 0 and is 7)" in what and rests == ALL
    assert "    all 10 cells of tiny\n" in report["text"]
    assert problems[name(moved)][0].startswith("says that it is questions-pope/pop-")
    assert problems[name(moved)][1] == {(FINETUNE, "POPE"), (LAYERNORM, "POPE")}
    mme = name(one(copy, "score-mme", "layernorm"))
    what, rests = problems[f"{name(answers)}/{MANIFEST}"]
    assert what == f"does not hold what {mme} was made from" and rests == {(LAYERNORM, "MME")}
    assert any(path.startswith(f"{mme}/") and path.endswith(".txt") for path in problems)
    what, rests = problems[f"{name(words)}/words.json"]
    assert what.startswith("is not what its inputs give: it has ") and rests == {
        (FINETUNE, "MSCOCO"),
        (LAYERNORM, "MSCOCO"),
    }
    what, rests = problems[f"{name(select)}/selection.json"]
    assert "is not what its inputs give: it has learning_rate 0.25, not " in what and rests == FINETUNE_ROW
    assert problems[f"{name(one(copy, 'table'))}/tiny.csv"][1] == {(FINETUNE, "learning_rate")}


@slow
def test_a_fetched_file_that_was_replaced_with_its_manifest(copy: Checkout) -> None:
    folder = one(copy, "fetch", "vicuna")
    weights = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    flip(weights)
    make_consistent(folder)
    chosen = one(copy, "select", "layernorm") / "chosen"
    shutil.copy(one(copy, "finetune", "0.0005") / "tuned.safetensors", copy.root / "other")
    change(chosen / "tuned.safetensors", lambda _: (copy.root / "other").read_bytes())
    make_consistent(chosen.parent)
    report = verified(copy, TABLE)
    assert cells(report) == {
        name(weights): ALL,
        f"{name(folder)}/{MANIFEST}": ALL,
        f"{name(chosen)}/tuned.safetensors": LAYERNORM_ROW,
        f"{name(chosen.parent)}/{MANIFEST}": LAYERNORM_ROW,
    }
    assert report["problems"][name(weights)][0] == "has another sha256 than the catalogue gave"
    assert report["problems"][f"{name(chosen)}/tuned.safetensors"][0] == "is not the file of the best candidate"


@slow
def test_a_score_that_cannot_be_made_again(copy: Checkout) -> None:
    answers = one(copy, "predict", "finetune", "mscoco")
    change(answers / "answers.jsonl", lambda old: old.split(b"\n", 1)[1])
    edit_json(one(copy, "score-pope", "layernorm") / MANIFEST, lambda one: one["metrics"].update(mean_accuracy=1.5))
    report = verified(copy, TABLE)
    score = name(one(copy, "score-captions", "finetune", "mscoco"))
    what, rests = report["problems"][score]
    assert what.startswith("cannot be made again from its inputs: ") and "no record for image_id" in what
    assert rests == {(FINETUNE, "MSCOCO")} == cells(report)[f"{name(answers)}/answers.jsonl"]
    what, rests = report["problems"][f"{name(one(copy, 'score-pope', 'layernorm'))}/{MANIFEST}"]
    assert "it has mean_accuracy 1.5, not " in what and rests == {(LAYERNORM, "POPE")}
    assert len(report["problems"]) == 3


# --- published files and results that are not there --------------------------------------------------------------


@slow
def test_published_tables(copy: Checkout) -> None:
    published = copy.root / TABLE
    lines = published.read_text().splitlines()
    fields = lines[1].split(",")
    fields[lines[0].split(",").index("VQAv2")] = "77.77"
    published.write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]) + "\n")
    (copy.root / "tables/tiny.md").unlink()
    change(copy.root / "tables/tiny.tex", lambda old: old + b"a remark\n")
    report = verified(copy)
    assert cells(report) == {TABLE: {(FINETUNE, "VQAv2")}, "tables/tiny.md": set(), "tables/tiny.tex": ALL}
    assert "in line 2, not" in report["problems"][TABLE][0]
    assert report["problems"]["tables/tiny.md"][0] == "is not there; run `snakemake tables/tiny.md`"

    copy.edit("workflow/report_items/tiny.yaml", "two ways to tune", "two ways")
    report = verified(copy, TABLE)
    assert cells(report) == {TABLE: set()}
    assert report["problems"][TABLE][0] == f"is not made yet under this config; run `snakemake {TABLE}`"
    assert report["verified"]["scores"] == 13


@slow
def test_deleted_results_and_accepted_edits_are_notes(copy: Checkout) -> None:
    checkpoint = one(copy, "finetune", "layernorm")
    shutil.rmtree(checkpoint)
    answers = one(copy, "predict", "finetune", "pope")
    shutil.rmtree(answers)
    scorer = copy.root / "src/lntune/benchmarks/pope/score.py"
    before = source_digest(scorer)
    copy.edit("src/lntune/benchmarks/pope/score.py", '{"No", "no", "not"}', '{"no", "No", "not"}')
    edit = {
        "stage": "score-pope",
        "because": "another order",
        "date": "2026-11-23",
        "code": {"lntune.benchmarks.pope.score": {"was": before, "now": source_digest(scorer)}},
        "packages": {},
    }
    (copy.root / "workflow/accepted.yaml").write_text(yaml.safe_dump({"accepted": [edit]}))
    report = verified(copy, TABLE)
    assert report["problems"] == {}
    notes = "\n".join(report["notes"])
    assert f"{name(checkpoint)} was deleted; " in notes and f"{name(answers)} was deleted; 2 results that" in notes
    assert "1 result not made again: what they are made from was deleted" in notes
    edit_text = "an edit declared equivalent on 2026-11-23: 'another order' (lntune.benchmarks.pope.score)"
    assert f"2 results of score-pope rest on {edit_text}" in notes


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_nothing_behind(made: Checkout, number: signal.Signals) -> None:
    process = start(made, TABLE)
    temporary = made.root.with_name("temporary")
    deadline = time.monotonic() + 60
    while not any(temporary.glob("lntune-verify-*/*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=30)  # ends when the last process that writes there has ended
    assert process.returncode != 0
    assert os.listdir(temporary) == []


# --- pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_groups_tokenized_together_are_as_each_alone() -> None:
    """Whole groups: a caption's words hang on its neighbours, so captions must not be taken from other groups."""
    ends = ["No.", "A.", "fig.", ":-)", "etc.", "U.S.", "the U.S.", "half \ud83d", "'", '"', "``", "", "5 1", "p.m."]
    begins = ["5 dogs", "The dog", "", "...", "'s dog", "n't", "\ude00", "/2", "Mr. Dog", "\u2028a", "(a)", "é"]
    groups = [(f"a dog {end}", begin) for end in ends for begin in begins]
    together = tokenize(*groups)
    some = range(0, len(groups), 13)
    assert [tokenize(groups[place])[0] for place in some] == [together[place] for place in some]
    assert together[groups.index(("a dog No.", "5 dogs"))][0] == "a dog no."
    assert together[groups.index(("a dog No.", "The dog"))][0] == "a dog no"

    assert tokenized_before(groups[3], ["told before"], list(groups[3])) == ["told before"]
    assert tokenized_before(groups[3], ["told before"], groups[7]) == together[7]  # one that it does not know


def test_cells_are_folded() -> None:
    known = [Cell("t", f"row {row}", column) for row in range(6) for column in ("A", "B", "learning_rate")]
    assert cells_text(known, known) == ["all 12 cells of t"]
    assert cells_text([cell for cell in known if cell.column == "B"], known) == ["t: B of all 6 rows"]
    some = [cell for cell in known if cell.row < "row 5" and cell.column == "A"]
    assert cells_text(some, known) == ["t: row 0: A", "t: row 1: A", "t: row 2: A", "t: ... and 2 more rows"]
    mixed = [cell for cell in known if cell.row == "row 1" or (cell.row, cell.column) == ("row 4", "learning_rate")]
    assert cells_text(mixed, known) == ["t: row 1: the whole row", "t: row 4: learning_rate"]
    assert cells_text([], known) == []
    two = [*known, Cell("u", "row", "A")]
    assert cells_text(two, two) == ["all 12 cells of t", "the one cell of u"]


def test_differences_are_told_in_a_few_words(tmp_path: Path) -> None:
    def told(suffix: str, right: str, found: str) -> str:
        paths = [tmp_path / f"{which}{suffix}" for which in ("right", "found")]
        for path, text in zip(paths, (right, found), strict=True):
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return difference(*paths)

    assert told(".json", '{"a": {"b": [1, 2.0]}}', '{"a": {"b": [1, 2]}}') == "a.b[1] 2, not 2.0"
    assert told(".json", '{"a": null}', '{"b": 1}') == "a nothing, not null"
    assert told(".json", '{"a": 1}', '{"a":1}') == "other bytes"
    assert told(".json", '{"a": 1}', "{") == "other bytes"
    assert told(".txt", "a\nb\n", "a\n") == '"" in line 2, not "b"'
    assert told(".txt", "a" * 99, "b") == f'"b" in line 1, not "{"a" * 56}...'
    assert told(".bin", "a", "\udcff") == "other bytes"
    assert differing_values({"a": [1]}, {"a": [1]}) == ""
    assert differing_values([1], [1, 2]) == "[1] 2, not nothing"


def test_tables_of_other_shape_have_no_clear_differences(tmp_path: Path) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("model,method,A\nm,x,1\nm,y,2\n")
    other.write_text("model,method,A\nm,x,1\nm,y,3\n")
    rows = tuple(Row(group="m", title=title, learning_rate=None, selections=(), scores=()) for title in "xy")
    said = {"title": "", "note": "", "scale": "", "scale_note": "", "protocol": "", "split": ""}
    settings = ShownItemSettings(name="t", columns=("A",), rows=rows, seeds=(0,), tokens=None, formats={}, **said)
    assert differing_cells(settings, one, other) == [Cell("t", "m: y", "A")]
    another = settings.model_copy(update={"rows": (*rows, rows[0].model_copy(update={"title": "z"}))})
    assert differing_cells(another, one, other) is None
    twice = "model,method,A\nm,x,1\nm,x,1\nm,y,3\n"
    for text in ("", "model,method,A\nm,x,1\n", "model,method,B\nm,x,1\nm,y,3\n", "a\n1\n", "\udcff", twice):
        other.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert differing_cells(settings, one, other) is None
