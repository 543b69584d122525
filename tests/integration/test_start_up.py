"""What starts quickly: no command imports what only models need, and what is remembered is what would be worked out."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.common import get_function_params
from snakemake.resources import Resource

from checkout import ROOT, Checkout
from lntune.config.training import LoraSettings
from lntune.estimate.memory import MemoryAccount, Setup, predict_memory
from lntune.estimate.shapes import LLMS, VISIONS
from lntune.plan.plan import Plan
from lntune.plan.study import Study
from lntune.snakefile.speed import callback, speed_up

TRACE = ("lntune", "trace", "tiny", "LayerNorm-Conv. 20K", "POPE")
SETUPS = [
    Setup(llm=LLMS["7B"], vision=VISIONS["open_clip"], method="layernorm"),
    Setup(llm=LLMS["7B"], vision=VISIONS["timm"], method="finetune", zero_stage=3, ranks=4, accumulation=True),
    Setup(
        llm=LLMS["13B"], vision=VISIONS["open_clip"], method="lora", lora=LoraSettings(rank=8, alpha=16, dropout=0.05),
        precision="tf32", micro_batch=2, length=1024, answer_tokens=512,
    ),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", [("lntune", "plan"), TRACE, ("snakemake", "-n", "tables/tiny.csv")], ids=str)
def test_no_command_about_results_imports_torch(made: Checkout, command: tuple[str, ...]) -> None:
    plugins = {"pandas"} if "snakemake" in command else set()  # Snakemake's plugin for SLURM imports it
    assert not _heavy(command, made.root, {"PYTHONPATH": str(made.root / "src")}) - plugins


@pytest.mark.parametrize("command", [("lntune", "plan"), ("lntune", "score", "--help")], ids=str)
def test_planning_and_scoring_import_no_torch(command: tuple[str, ...], tmp_path: Path) -> None:
    store = ("--config", f"store={tmp_path}") if "plan" in command else ()
    assert not _heavy((*command, *store), ROOT, {"PYTHONPATH": str(ROOT / "src")})


def _heavy(command: tuple[str, ...], root: Path, more: dict[str, str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *command],
        cwd=root, env=os.environ | more, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    imported = set(re.findall(r"^import time:[^|]*\|[^|]*\|\s*(\w+)$", done.stderr, re.MULTILINE))
    assert {"pydantic", "typer"} & imported
    return imported & {"torch", "transformers", "deepspeed", "pandas", "peft"}


@pytest.mark.slow
def test_predictions_that_were_kept_are_those_that_are_made(tmp_path: Path) -> None:
    code = (
        "import json, sys; from lntune.estimate.memory import Setup, predict_memory;"
        "from lntune.estimate.jobs import predicted;"
        "print(json.dumps([predicted(Setup.model_validate_json(text)).model_dump() for text in json.load(sys.stdin)]));"
        "print(predict_memory.cache_info().misses)"
    )

    def asked(setups: list[Setup]) -> tuple[list[MemoryAccount], int]:
        done = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps([setup.model_dump_json() for setup in setups]), text=True,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")},
            capture_output=True, check=True,
        )  # fmt: skip
        accounts, misses = done.stdout.splitlines()
        return [MemoryAccount.model_validate(one) for one in json.loads(accounts)], int(misses)

    made = [predict_memory(setup) for setup in SETUPS]
    assert asked(SETUPS[:1]) == (made[:1], 1)
    assert asked(SETUPS) == (made, 2)  # the first is known
    assert asked(SETUPS) == (made, 0)
    assert [list(one.parts) for one in asked(SETUPS)[0]] == [list(one.parts) for one in made]


@pytest.mark.slow
def test_how_jobs_are_carried_out_is_remembered_by_all_that_decides_it() -> None:
    plan = Plan(Study.read(ROOT, {"scale": "paper", "protocol": "paper"}))
    for method in plan.scale.methods:
        for llm in plan.scale.llms:
            given = ("finetune", llm, plan.scale.vision, method)
            assert plan.training_execution(*given) == Plan.training_execution.__wrapped__(plan, *given)
        for tokens in (1, 20, 300):
            asked = ("predict", llm, plan.scale.vision, tokens, 10 * tokens)
            assert plan._prompting_execution(*asked) == Plan._prompting_execution.__wrapped__(plan, *asked)


def test_snakemake_is_given_the_parameters_that_it_would_find() -> None:
    def resource(wildcards: object, attempt: int) -> int:
        return attempt

    vars(Resource.evaluate).pop("_overwrite_params", None)
    plain = get_function_params(Resource("mem_mb", resource).evaluate)
    speed_up()
    assert get_function_params(Resource("mem_mb", resource).evaluate) == plain
    assert "_overwrite_params" in vars(Resource.evaluate)
    assert Resource("mem_mb", resource).evaluate(None, attempt=3, threads=2).value == 3
    found = get_function_params(resource)
    assert get_function_params(callback(resource)) == found and hasattr(resource, "_overwrite_params")
