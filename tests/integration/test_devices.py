"""Jobs of the workflow that were given GPUs which do not work, and jobs that run out of memory."""

from pathlib import Path

import pytest
import torch

from checkout import Checkout, copy_checkout
from lntune.config.training import OnDevice
from lntune.plan.plan import Plan
from lntune.plan.study import Study

pytestmark = pytest.mark.slow
SCALE = "workflow/scales/tiny.yaml"


def with_gpus(checkout: Checkout, *stages: str, **execution: object) -> None:
    scale = checkout.yaml(SCALE)
    scale["execution"] |= {"stages": {stage: {"gpus": 1} for stage in stages}, **execution}
    checkout.write_yaml(SCALE, scale)


def test_every_stage_with_gpus_knows_of_them_and_no_id_does(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    checkout.edit("config.yaml", "[tiny]", "[tiny, figure1, figure2, figure3]")
    stages = ("connector", "finetune", "predict", "similarity", "measure")

    def nodes() -> dict[str, OnDevice]:
        plan = Plan(Study.read(checkout.root))
        for name in plan.study.settings.report_items:
            plan.report_item(name)
        return {node.id: node.execution for node in plan.nodes() if isinstance(node.execution, OnDevice)}

    without = nodes()
    with_gpus(checkout, *stages)
    given = nodes()
    assert {one.device for one in without.values()} == {"auto"} and {one.device for one in given.values()} == {"gpu"}
    with_gpus(checkout, *stages, device="cpu", gpu={"name": "a100", "memory_gb": 85.0, "teraflops": 156.0})
    on_cpu = nodes()
    assert {one.device for one in on_cpu.values()} == {"cpu"}
    assert set(without) == set(given) == set(on_cpu)


BEGIN = "    if runs_on_ranks(job):"
"""Where the connector's work begins."""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_training_on_gpus_that_do_not_work_never_starts_on_the_cpu(copy: Checkout) -> None:
    copy.edit("src/lntune/stages/connector.py", BEGIN, f"    assert job\n{BEGIN}")  # made again
    with_gpus(copy, "connector")
    printed = copy.snakemake("-c2", "--config", "report_items=[tiny]", code=1)
    (line,) = {line for line in printed.splitlines() if line.startswith("error: connector ")}
    assert "was given GPUs on" in line and "torch finds 0 of 1" in line and f"CUDA {torch.version.cuda}" in line
    assert not [*(copy.root / "results/.scratch").glob("connector-*/step-*")]


def test_memory_that_does_not_do_is_one_line_and_the_traceback_is_in_the_log(copy: Checkout) -> None:
    copy.edit("src/lntune/stages/connector.py", BEGIN, f"    import torch\n\n    torch.empty(1 << 50)\n{BEGIN}")
    printed = copy.snakemake("-c2", code=1)
    (line,) = {line for line in printed.splitlines() if line.startswith("error: connector ")}
    assert "host memory did not do for 4503599627370496 bytes more; raise mem_mb" in line
    assert "Traceback" not in printed
    assert any("torch.empty(1 << 50)" in log.read_text() for log in (copy.root / "logs/connector").glob("*.log"))
