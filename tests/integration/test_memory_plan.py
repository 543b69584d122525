"""Memory known before the queue: what the plan chooses, refuses and foretells, with a GPU; and `lntune memory`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT, Checkout, copy_checkout, run_python
from finished import finish
from lntune.config.llm_shape import LlmShape
from lntune.errors import UserError
from lntune.estimate.hours import PREFIX_TOKENS, prediction_seconds
from lntune.estimate.jobs import PROMPT_TOKENS
from lntune.estimate.shapes import LLMS
from lntune.paper.memory import text as paper_text
from lntune.plan.forecast import Forecast
from lntune.plan.memory_fit import job_of, llm_shape
from lntune.plan.models import Variant
from lntune.plan.node import Node
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.report.rows import notes
from lntune.snakefile.workflow import Workflow
from lntune.stages import similarity

GIVEN = {"scale": "cards"}


def with_card(checkout: Checkout, **execution: Any) -> None:
    """Write the scale ``cards``: the demo's data, the paper's LLMs, one kind of card."""
    scale = checkout.yaml("workflow/scales/demo.yaml")
    for name, llm in scale["llms"].items():
        llm["weights"] = {"vicuna-7b": "vicuna-7b-v1.1"}.get(name, name)
    for schedule in (scale["connector"]["schedule"], scale["finetune"]):
        schedule |= {"precision": "tf32", "max_length": 2048}
    scale["methods"]["finetune"]["zero_stage"] = 3
    scale["execution"] |= {
        "engine": "deepspeed",
        "micro_batch": 16,
        "cache_features": False,
        "gpu": {"name": "a100", "memory_gb": 85.0, "teraflops": 156.0},
        "stages": {stage: {"threads": 8, "gpus": 4, "runtime": 1440} for stage in ("connector", "finetune")},
        **execution,
    }
    checkout.write_yaml("workflow/scales/cards.yaml", scale)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = copy_checkout(tmp_path_factory.mktemp("cards") / "checkout")
    with_card(checkout)
    return checkout


def plan_of(checkout: Checkout) -> Plan:
    return Plan(Study.read(checkout.root, GIVEN))


def execution_of(plan: Plan, llm: str, method: str) -> Any:
    variant = Variant(llm, "clip", method, "80K", 0)
    rate = plan.scale.methods[method].learning_rates[0]
    return plan.candidate(variant, rate).execution


def test_the_plan_chooses_what_fits_the_card(cards: Checkout) -> None:
    plan = plan_of(cards)
    small = execution_of(plan, "llama2-7b", "layernorm")
    large = execution_of(plan, "llama2-13b", "finetune")
    assert (small.engine, small.ranks, small.zero_stage, small.recompute_above) == ("deepspeed", 4, 2, None)
    assert (large.ranks, large.zero_stage) == (4, 3) and large.positions < small.positions
    assert plan.connector("llama2-13b", "clip", 0).execution.ranks == 4


def test_a_training_that_one_gpu_ends_in_time_gets_one() -> None:
    """The paper's scale: fewer GPU-hours at a start, and no longer than the time that its partition allows."""
    workflow = Workflow(ROOT, {"scale": "paper", "cluster": {"gpu_time_limit": 1440}})
    plan = workflow.plan
    plan.report_item("table3")
    tuned = [node for node in plan.nodes() if node.stage in ("finetune", "connector")]
    alone = [node for node in tuned if node.execution.ranks == 1]
    methods = {(node.players("llm")[0].label, getattr(node.settings, "method", "connector")) for node in alone}
    assert ("llama2-7b", "layernorm") in methods and ("llama2-13b", "finetune") not in methods
    assert {llm for llm, method in methods if method == "connector"} == set(), "three epochs of 595,375 samples"
    most, given = 3600 * plan.scale.execution.one_gpu_hours, plan.scale.execution.of("finetune")
    for node in tuned:
        expected, amounts = Forecast(plan).of(node), workflow.allocations.amounts(node)
        assert (amounts.gpus, node.execution.threads) == (node.execution.ranks, given.threads // 4)
        assert expected.gpus == node.execution.ranks
        assert (
            amounts.mem_mb == given.mem_mb * amounts.gpus // 4 and amounts.threads == given.threads * amounts.gpus // 4
        )
        if node in alone:
            assert expected.seconds < most and workflow.allocations.runtime(node) <= 1440


def test_table_2_is_measured_in_the_precision_that_the_papers_gigabytes_fit() -> None:
    paper, demo = (Plan(Study.read(ROOT, {"scale": scale})) for scale in ("paper", "demo"))
    assert paper.scale.finetune.precision == "tf32"
    for plan, precision in ((paper, "bf16-weights"), (demo, "fp32")):
        assert plan.measure("llama2-7b", "clip", "layernorm").settings.precision == precision
        for name in ("table2", "figure1"):
            assert notes(plan.report_item(name).settings)[-1].endswith(f" Memory of training in {precision}.")
        assert plan.report_item("table3").settings.measured_in == ""


def test_what_is_chosen_is_no_part_of_a_results_name(cards: Checkout, tmp_path: Path) -> None:
    variant = Variant("llama2-7b", "clip", "layernorm", "80K", 0)
    other = copy_checkout(tmp_path / "other")
    with_card(other, micro_batch=2, gpu={"name": "h100", "memory_gb": 90.0, "teraflops": 495.0})
    first, second = (plan_of(checkout).candidate(variant, 1e-2) for checkout in (cards, other))
    assert first.execution != second.execution and first.id == second.id


def test_the_demo_is_carried_out_as_it_says() -> None:
    plan = Plan(Study.read(ROOT, {"scale": "demo"}))
    execution = execution_of(plan, "llama2-13b", "finetune")
    assert (execution.engine, execution.ranks, execution.micro_batch) == ("plain", 1, 32)
    assert Forecast(plan).of(plan.connector("llama2-13b", "clip", 0)).basis == "limit"


def test_a_job_that_cannot_fit_is_refused_before_it_is_queued(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    with_card(checkout, stages={"finetune": {"gpus": 1}, "connector": {"gpus": 4}})
    for module, *arguments in (("lntune", "plan", "table3"), ("snakemake", "-n", "tables/table3.csv")):
        checkout.edit("config.yaml", "scale: tiny ", "scale: cards ") if module == "lntune" else None
        printed = checkout.run(module, *arguments, code=1)
        (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: finetune vicuna-7b finetune on 1 x a100 85 GB: needs ")
        assert "execution.stages.finetune.gpus" in line and "Traceback" not in printed


def test_an_llms_shape_is_that_of_its_config_or_before_it_is_there_the_catalogues(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    with_card(checkout)
    catalog = checkout.yaml("workflow/catalog.yaml")
    entry = catalog["entries"]["llama2-7b"]

    def shape(said: Any) -> LlmShape:
        checkout.write_yaml("workflow/catalog.yaml", {"entries": catalog["entries"] | {"llama2-7b": entry | said}})
        return llm_shape(Study.read(checkout.root, GIVEN | {"store": str(tmp_path / "store")}), "llama2-7b")

    assert shape({}) == LLMS["7B"]
    with pytest.raises(UserError, match=r"catalog\.yaml: entries\.llama2-7b\.shape: missing key; .* add \{hidden"):
        shape({"shape": None})
    with pytest.raises(UserError, match=r"catalog\.yaml: entries\.llama2-7b\.shape\.layers: missing key"):
        shape({"shape": {key: value for key, value in entry["shape"].items() if key != "layers"}})
    shape({})
    plan = Plan(Study.read(checkout.root, GIVEN | {"store": str(tmp_path / "store")}))
    finish(plan, "table3", lambda node: 1.0)
    assert shape({"shape": None}) == LLMS["7B"]
    with pytest.raises(
        UserError, match=r"entries\.llama2-7b\.shape: is not what .*/fetch/llama2-7b-.*config\.json says"
    ):
        shape({"shape": entry["shape"] | {"layers": 33}})
    assert execution_of(Plan(Study.read(ROOT, {"scale": "demo"})), "llama2-7b", "layernorm"), "files of the checkout"


def test_the_batch_is_part_of_an_answers_name_in_bf16_alone(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")

    def asked(**changes: Any) -> Node:
        checkout.write_yaml("workflow/scales/cards.yaml", {"extends": "tiny", **changes})
        answers = plan_of(checkout).score(Variant("vicuna-7b", "clip", "layernorm", "80K", 0), "pope").inputs["answers"]
        assert isinstance(answers, Node)
        return answers

    few, many = (asked(execution={"prediction_batch": size}) for size in (3, 40))
    assert few.id == many.id and few.execution != many.execution
    half, other = (asked(prediction={"precision": "bf16", "batch": size}) for size in (3, 40))
    assert len({few.id, half.id, other.id}) == 3 and half.identity.document()["settings"]["batch_size"] == 3
    said = notes(plan_of(checkout).report_item("tiny").settings)[-1]
    assert said.endswith(" Answers computed in bf16, 40 questions at a time.")
    for wrong, told in (({"precision": "bf16"}, "bf16 needs batch"), ({"batch": 3}, "in fp32 answers do not depend")):
        with pytest.raises(UserError, match=rf"cards\.yaml: prediction: {told}"):
            asked(prediction=wrong)


def test_lntune_plan_foretells_gpu_hours_and_memory(cards: Checkout) -> None:
    cards.edit("config.yaml", "scale: tiny ", "scale: cards ")
    printed = cards.run("lntune", "plan", "table3")
    cards.edit("config.yaml", "scale: cards ", "scale: tiny ")
    lines = printed.splitlines()
    assert any(line.startswith("GPU-hours: ") and "predicted (connector " in line for line in lines), printed
    assert any(line.startswith("peak memory on a GPU, predicted: connector ") for line in lines)
    finetune = next(line for line in lines if line.startswith("finetune "))
    assert "<" not in finetune and "GB" in finetune


def test_predictions_follow_the_job(cards: Checkout) -> None:
    plan = plan_of(cards)
    forecast = Forecast(plan)
    found = {}
    for method in ("layernorm", "layernorm-simp", "finetune"):
        variant = Variant("llama2-7b", "clip", method, "80K", 0)
        found[method] = forecast.of(plan.candidate(variant, plan.scale.methods[method].learning_rates[0]))
    simple, whole = found["layernorm-simp"], found["finetune"]
    assert simple and whole and simple.seconds < whole.seconds
    assert simple.bytes == 4 * 32 * 2 * 4096 and whole.bytes > 26e9 and simple.gpus == 4
    score = plan.score(Variant("llama2-7b", "clip", "layernorm", "80K", 0), "pope")
    answers = score.inputs["answers"]
    asked = forecast.of(answers)  # type: ignore[arg-type]
    assert asked and asked.gpus == 1 and asked.memory and asked.memory > 4 * 7e9
    scored = forecast.of(score)
    assert scored and scored.gpus == 0 and scored.seconds < 60
    assert isinstance(answers, Node) and answers.inputs["tuned"] is not None
    of_tuned = similarity.Settings.model_fields.keys() - {"questions"}
    settings = {key: value for key, value in answers.settings.model_dump().items() if key in of_tuned}
    few, many = (
        plan.node("similarity", ["it"], similarity.Settings(**settings, questions=n), answers.inputs, answers.execution)
        for n in (100, 20_000)
    )
    compared, all_of_them = forecast.of(few), forecast.of(many)
    assert compared and all_of_them and compared.gpus == 1 and compared.memory and compared.bytes < 1e6
    assert 4 * 7e9 < compared.memory < asked.memory, "states take less than keys and values"
    assert compared.seconds < asked.seconds < all_of_them.seconds * 2 and all_of_them.bytes < 2e6, "POPE has 9,000"


def test_a_image_is_predicted_to_be_read_once(cards: Checkout) -> None:
    plan = plan_of(cards)
    job = job_of(plan.study, "finetune", "llama2-7b", "clip", "layernorm")
    gpu = plan.scale.execution.gpu
    assert gpu is not None

    def seconds(questions: int, images: int) -> float:
        return prediction_seconds(job, questions, images, 0, 1, gpu)

    one, six, six_alone = seconds(1, 1), seconds(6, 1), seconds(6, 6)
    assert six_alone == pytest.approx(6 * one)
    tokens = job.vision.tokens + PROMPT_TOKENS
    rest = PROMPT_TOKENS - PREFIX_TOKENS
    assert 1 + 5 * rest / tokens < six / one < 1.3 * (1 + 5 * rest / tokens), "and attention to what was read"


# --- lntune memory


def lntune(*arguments: str, code: int = 0) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}
    done = run_python(ROOT, environment, "lntune", *arguments, apart=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_the_table_of_the_demo(cards: Checkout) -> None:
    printed = lntune("memory")
    assert "this scale names no GPU" in printed and "Predicted, per GPU" in printed
    assert sum("layernorm-simp" in line for line in printed.splitlines()) == 5
    cards.edit("config.yaml", "scale: tiny ", "scale: cards ")
    with_cards = cards.run("lntune", "memory")
    cards.edit("config.yaml", "scale: cards ", "scale: tiny ")
    assert "a100 85 GB, of which tensors may take 81 GB" in with_cards and "ZeRO 3, 4 GPUs" in with_cards


def test_one_case_is_itemised() -> None:
    llm = ("--config", "scale=paper", "--llm", "llama2-13b")
    asked = ("memory", *llm, "--method", "layernorm", "--gpus", "4", "--precision", "bf16-weights")
    printed = lntune(*asked, "--micro-batch", "2")
    assert printed.startswith("llama2-13b, layernorm: ") and "GB a GPU (predicted), in the backward pass" in printed
    assert "deepspeed ZeRO 2, 4 GPUs, passes of 4,096 positions, recomputed: none" in printed
    assert "this: 2 samples of 2048 positions, 1791 of them answer, bf16-weights, without gradient" in printed
    assert "333,337,600 of 13,324,292,096 parameters train (2.502%)" in printed
    (found,) = json.loads(lntune(*asked, "--micro-batch", "2", "--json"))
    assert sum(found["predicted_parts"].values()) == found["predicted_bytes"]


@pytest.mark.slow
def test_a_trace_stands_beside_the_prediction() -> None:
    (found,) = json.loads(lntune("memory", "--llm", "llama2-7b", "--method", "layernorm", "--trace", "--json"))
    traced = found["traced"]
    assert traced["predicted_bytes"] == pytest.approx(traced["traced_bytes"], rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--llm", "8B"), "workflow/scales/demo.yaml: llms: unknown llm '8B' (known: vicuna-7b, llama2-7b"),
        (("--method", "layer-norm"), "unknown method 'layer-norm' (did you mean 'layernorm'?"),
        (("--llm", "llama2-7b", "--length", "10"), "--length 10: the image alone takes 9 positions; give more"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str) -> None:
    printed = lntune("memory", *arguments, code=1)
    assert said in printed and len(printed.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_page_shows_table_2_as_the_command_prints_it() -> None:
    table = paper_text(ROOT)
    assert table in (ROOT / "docs" / "memory.md").read_text(), "docs/memory.md: paste `lntune memory --paper` again"
    found = json.loads(lntune("memory", "--paper", "--json"))
    assert len(found["rows"]) == 12 and all(len(row["predicted_gb"]) == 5 for row in found["rows"])


def test_memory_and_plan_import_no_torch(cards: Checkout) -> None:
    code = (
        "import sys; from pathlib import Path; from lntune.plan.study import Study;"
        "from lntune.plan.plan import Plan;"
        "from lntune.commands.memory import Question, answers; import lntune.paper.memory, lntune.plan.pending;"
        "study = Study.read(Path('.'), {'scale': 'cards'}); Plan(study).report_item('table3');"
        "answers(study, Question());"
        "print(sorted({'torch', 'transformers', 'pandas', 'deepspeed', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cards.root, capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"PYTHONPATH": str(cards.root / "src")},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
