"""The whole workflow through Snakemake, at a tiny scale: what runs, what does not, and that bytes repeat."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from checkout import ROOT, Checkout
from forked import forked_processes
from latex import compile_fragment
from lntune.commands.trace.cell import trace_cell
from lntune.errors import UserError
from lntune.snakefile.workflow import Workflow
from lntune.stages.figure_gradients import read_norm_gradients

pytestmark = pytest.mark.slow

TABLE = "tables/tiny.csv"


def test_the_table_is_whole_and_says_what_it_is(made: Checkout) -> None:
    with (made.root / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["Finetune-80K", "LayerNorm-Conv. 20K"]
    for row in rows:
        assert all(row.values()), row
        assert (row["scale"], row["protocol"], row["selected_on"]) == ("tiny", "modern", "Flickr30k test")
        assert len(row["MME"].split("/")) == 2 and len(row["POPE"].split("/")) == 3
        assert 0 <= float(row["VQAv2"]) <= 100
    markdown = (made.root / "tables/tiny.md").read_text()
    assert "This is the demo" in markdown and "Scale: tiny" in markdown and "the choice leaks" in markdown


def test_the_tables_latex_is_compiled(made: Checkout, tmp_path: Path) -> None:
    assert compile_fragment((made.root / "tables/tiny.tex").read_text(), tmp_path, "tiny").stat().st_size > 10_000


def test_a_dry_run_announces_just_the_jobs_that_run(made: Checkout) -> None:
    announced, ran = json.loads((made.root / "counts.json").read_text())
    assert announced == ran
    assert announced["finetune"] == 3 and announced["predict"] == 3 + 2 * 5 and announced["select"] == 2


def test_the_papers_protocol_and_a_selection_that_leaks_nothing(
    copy: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--config", "protocol=paper", "selection_split=validation")
    copy.edit("workflow/protocols/paper.yaml", "number: 3, pool: 5000", "number: 2, pool: 5000")  # tiny has two to draw
    counts = copy.pending(TABLE, *given)
    assert "finetune" not in counts and "connector" not in counts  # asking otherwise trains nothing
    copy.snakemake("-c2", TABLE, *given)
    with (copy.root / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["protocol"], row["selected_on"]) for row in rows} == {("paper", "Flickr30k validation")}
    assert any(not (folder / "landmark.txt").exists() for folder in copy.results("questions-mme"))
    monkeypatch.chdir(copy.root)
    chosen = {"protocol": "paper", "selection_split": "validation"}
    for column, examples in (("Flickr30k", 2), ("MSCOCO", 2), ("VQAv2", 3), ("POPE", 0), ("MME", 0)):
        found = trace_cell(Path("."), "tiny", "Finetune-80K", column, show=4, overrides=chosen)
        for one in found["examples"][0]["shown"]:
            front, _, asked = one["prompt"].partition("<image>\n")
            assert asked == f"{one['question']}###Assistant:" and front.count("###Assistant: ") == 1 + examples
    assert copy.pending(TABLE) == {"publish": 1}  # back under config.yaml: only the fixed name is wrong


def test_finetunes_record_the_gradients_of_norms_and_the_connector_does_not(made: Checkout) -> None:
    for folder in (*made.results("finetune"), *(selection / "chosen" for selection in made.results("select"))):
        steps = (folder / "metrics.jsonl").read_text().count("\n")
        found, recorded = read_norm_gradients(folder / "metrics.jsonl", 2, "post")
        assert found == tuple(range(1, steps + 1)) and recorded[:, 1].min() > 0
    (connector,) = made.results("connector")
    with pytest.raises(UserError, match="no gradients of norms"):
        read_norm_gradients(connector / "metrics.jsonl", 2, "post")


def _spec(checkout: Checkout, stage: str, place: int = 0) -> tuple[Path, Path]:
    """An order of a stage and the folder of its result."""
    result = checkout.results(stage)[place]
    return checkout.root / "results/.jobs" / stage / f"{result.name}.json", result


def _runner(checkout: Checkout, spec: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(checkout.root / "src")}
    return subprocess.Popen(
        [sys.executable, "-m", "lntune.jobs.run", str(spec.relative_to(checkout.root))],
        cwd=checkout.root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture
def forked_runner() -> Iterator[None]:
    """Runners need not import torch."""
    with forked_processes("lntune.jobs.run"):
        yield


@pytest.mark.usefixtures("forked_runner")
def test_a_finetune_that_was_killed_goes_on_to_the_same_bytes(copy: Checkout) -> None:
    places = [k for k, result in enumerate(copy.results("finetune")) if "-80K-" in result.name]
    spec, result = _spec(copy, "finetune", places[0])
    undisturbed = (result / "tuned.safetensors").read_bytes()
    shutil.rmtree(result)
    process = _runner(copy, spec)
    scratch = copy.root / "results/.scratch" / f"finetune-{result.name.rpartition('-')[2]}"
    deadline = time.monotonic() + 120
    while not any(scratch.glob("*")) if scratch.is_dir() else True:
        assert process.poll() is None, "it ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (result / "manifest.json").exists()
    again = _runner(copy, spec)
    printed, _ = again.communicate(timeout=300)
    assert again.returncode == 0, printed
    assert (result / "tuned.safetensors").read_bytes() == undisturbed


@pytest.mark.usefixtures("forked_runner")
def test_answers_do_not_depend_on_the_batch(copy: Checkout) -> None:
    seen = set()
    for place, result in enumerate(copy.results("predict")):
        benchmark = next((b for b in ("mme", "vqav2", "mscoco", "flickr30k", "pope") if f"-{b}" in result.name), "")
        if benchmark in seen:
            continue
        seen.add(benchmark)
        spec, _ = _spec(copy, "predict", place)
        document = json.loads(spec.read_text())
        assert document["execution"]["batch_size"] > 1
        document["execution"]["batch_size"] = 1
        spec.write_text(json.dumps(document))
        answers = (result / "answers.jsonl").read_bytes()
        shutil.rmtree(result)
        process = _runner(copy, spec)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        assert (result / "answers.jsonl").read_bytes() == answers, result.name
    assert seen == {"mme", "vqav2", "mscoco", "flickr30k", "pope"}


def test_a_job_whose_code_was_edited_since_it_was_planned_refuses(copy: Checkout) -> None:
    spec, result = _spec(copy, "score-pope")
    shutil.rmtree(result)
    copy.edit("src/lntune/benchmarks/pope/score.py", '{"No", "no", "not"}', '{"No", "no"}')
    process = _runner(copy, spec)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert printed.strip().splitlines() == [
        f"error: score-pope {result.name.rpartition('-')[0]}: lntune.benchmarks.pope.score changed after this job was "
        "planned; run snakemake again"
    ]


def test_one_more_llm_by_yaml_alone(copy: Checkout, tmp_path: Path) -> None:
    """The worked example of docs/adding.md."""
    folder = tmp_path / "my-llm"
    shutil.copytree(ROOT / "workflow/weights/llama2-13b", folder)
    (folder / "record.json").unlink(missing_ok=True)
    copy.run("lntune", "pin", "my-llm", str(folder), "--about", "a LLaMA of mine", "--licence", "MIT")
    scale = copy.yaml("workflow/scales/tiny.yaml")
    scale["llms"]["my-llm"] = {"title": "MM-MINE", "weights": "my-llm", "template": "v0", "system": ""}
    copy.write_yaml("workflow/scales/tiny.yaml", scale)
    copy.edit("workflow/report_items/tiny.yaml", "[vicuna-7b]", "[vicuna-7b, my-llm]")
    copy.edit("workflow/report_items/tiny.yaml", "  - {title: Finetune-80K, method: finetune, data: 80K}\n", "")
    counts = copy.pending(TABLE)
    assert counts["fetch"] == 1 and counts["connector"] == 1 and counts["finetune"] == 1
    copy.snakemake("-c2", TABLE)
    with (copy.root / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["MM-VICUNA-7B", "MM-MINE"] and all(rows[1].values())


def test_the_warm_process_and_a_cold_one_make_the_same(copy: Checkout) -> None:
    spec, result = _spec(copy, "predict")
    warm = (result / "answers.jsonl").read_bytes()  # made by the warm process of the first run
    shutil.rmtree(result)
    process = _runner(copy, spec)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert (result / "answers.jsonl").read_bytes() == warm


def test_start_up_imports_no_torch(made: Checkout) -> None:
    code = (
        "import sys; from pathlib import Path; from lntune.snakefile.workflow import Workflow; Workflow(Path('.'), {});"
        "print(sorted({'torch', 'transformers', 'pandas', 'deepspeed'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=made.root, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"PYTHONPATH": str(made.root / "src")},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_a_job_that_will_be_linked_queues_for_no_gpu(copy: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = copy.yaml("workflow/scales/tiny.yaml")
    scale["execution"]["default"] |= {"gpus": 4, "runtime": 600, "mem_mb": 64000}
    copy.write_yaml("workflow/scales/tiny.yaml", scale)
    linked = next(folder for folder in copy.results("predict") if _manifest(folder)["origin"])
    alone = next(folder for folder in copy.results("predict") if folder.name.rpartition("-")[0].endswith("-pope"))
    for folder in (linked, alone):
        shutil.rmtree(folder)
    monkeypatch.chdir(copy.root)
    workflow = Workflow(copy.root, {})

    def asked(folder: Path, of: Workflow) -> dict[str, int]:
        given = SimpleNamespace(result=folder.name)
        return {name: amount(given) for name, amount in of.resources.items()}

    full, little = {"mem_mb": 64000, "runtime": 600, "gpu": 4}, {"mem_mb": 1000, "runtime": 5, "gpu": 0}
    assert (asked(linked, workflow), asked(alone, workflow)) == (full, full)  # as a dry-run announces them
    workflow.start(fork_server=False)
    assert (asked(linked, workflow), asked(alone, workflow)) == (little, full)
    inside = Workflow(copy.root, {}, in_job=True)  # SLURM refuses a step that asks for more than its job was given
    assert (asked(linked, inside), asked(alone, inside)) == (little, full)


def _manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())
