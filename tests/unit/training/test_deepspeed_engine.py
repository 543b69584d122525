"""Real DeepSpeed on one and two ranks of this machine's CPU, held against the plain loop.

Twice: with gloo's collectives, which make the host wait, and with such as NCCL's, which do not. The second time leaves
out what only differs in how a rank computes, by precision or method: that has no say in when a collective ends. Runs
that diverge are in bfloat16 the first time, in float32 the second.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from checkout import ROOT
from deepspeed_cells import Cell, train_cell
from forked import forked_processes
from lntune.errors import UserError
from lntune.training.launch import RankCrash, launch

pytestmark = pytest.mark.slow

METHODS = ("finetune", "lora", "layernorm", "layernorm-simp")
STAGES = (0, 2, 3)
RESUMED = {"dropout": 0.1, "settings": {"epochs": 3.0, "max_steps": 11}}
"""Into the third epoch, on after a step of the second."""


HELPERS = ROOT / "tests" / "helpers"
Made = tuple[int, Path, dict[str, Any]]


@pytest.fixture(autouse=True, scope="module", params=[(), (HELPERS / "late_collectives",)], ids=["gloo", "as NCCL"])
def _ranks_find_the_tests(request: pytest.FixtureRequest) -> Any:
    with forked_processes(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT / "src", HELPERS, *request.param))))
        yield


def as_nccl() -> bool:
    """Whether this is the second time."""
    return "late_collectives" in os.environ["PYTHONPATH"]


def deepspeed(ranks: int, stage: int, **execution: Any) -> dict[str, Any]:
    return {"engine": "deepspeed", "ranks": ranks, "zero_stage": stage, **execution}


def on_ranks(root: Path, cells: dict[str, dict[str, Any]], ranks: int) -> dict[str, dict[str, Any]]:
    """Run the cells in one launch; return what each returned, by name."""
    document = {"cells": [{**cell, "folder": str(root / name)} for name, cell in cells.items()]}
    return dict(zip(cells, launch("deepspeed_cells", document, ranks, 1, "cells"), strict=True))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Cell], tuple[Path, dict[str, Any]]]:
    """What the plain loop makes of a cell: its folder, and what it returned. Cells that differ by engine share it."""
    made: dict[str, tuple[Path, dict[str, Any]]] = {}

    def run(cell: Cell) -> tuple[Path, dict[str, Any]]:
        alone = {**cell, "execution": {}}
        key = json.dumps(alone, sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp("plain")
            made[key] = folder, train_cell({**alone, "folder": str(folder)})
        return made[key]

    return run


def equality_cells(ranks: int) -> dict[str, dict[str, Any]]:
    """ZeRO stages and methods, a last batch of one sample (a rank has none), and passes of some positions,
    of which the larger recompute their activations."""
    cells: dict[str, dict[str, Any]] = {
        f"{method}-{stage}": {"method": method, "execution": deepspeed(ranks, stage), "large": True}
        for method in (("layernorm",) if ranks == 1 else ("finetune",) if as_nccl() else METHODS)
        for stage in STAGES
    }
    for stage in (2, 3):
        cells[f"uneven-{stage}"] = {"method": "layernorm", "samples": 9, "execution": deepspeed(ranks, stage)}
        cells[f"checkpointed-{stage}"] = {
            "method": "finetune", "execution": deepspeed(ranks, stage, positions=60, recompute_above=30), "large": True,
            "settings": {"max_grad_norm": None, "weight_decay": 0.1},
        }  # fmt: skip
    cells["text"] = {"method": "layernorm", "execution": deepspeed(ranks, 3), "plant": "text only"}
    for stage in () if as_nccl() else STAGES:
        cells[f"bf16-{stage}"] = {
            "method": "layernorm", "execution": deepspeed(ranks, stage), "settings": {"precision": "bf16"}
        }  # fmt: skip
        cells[f"weights-{stage}"] = {
            "method": "layernorm", "execution": deepspeed(ranks, stage), "settings": {"precision": "bf16-weights"}
        }  # fmt: skip
    return cells


def resuming_cells(ranks: int, name: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {
        f"{name}-{stage}": {"method": "layernorm", "execution": deepspeed(ranks, stage), **RESUMED, **more}
        for stage in STAGES
    }


def slow_cells() -> dict[str, dict[str, Any]]:
    slow = {
        "method": "layernorm",
        **RESUMED,
        "settings": {"epochs": 3.0, "max_steps": 7},
        "slow": True,
        "plant": "stop",
        "at": 5,
    }
    return {f"slow-{stage}": {**slow, "execution": deepspeed(2, stage, checkpoint_minutes=1e-9)} for stage in STAGES}


def diverging_cells() -> dict[str, dict[str, Any]]:
    overflow = {"learning_rate": 0.9, "weight_decay": 1e20, "epochs": 3.0}
    return {
        f"{name}-{stage}-{precision}": {
            "method": "finetune", "execution": deepspeed(2, stage, checkpoint_steps=1),
            "settings": {"precision": precision, **settings}, "plant": plant,
        }
        for name, plant, settings in (("broken", "broken picture", {}), ("overflow", None, overflow))
        for stage in STAGES
        for precision in ("fp32" if as_nccl() else "bf16-weights",)
    }  # fmt: skip


KILLED = {"execution": deepspeed(2, 2, checkpoint_steps=4), "method": "layernorm", **RESUMED}


def killed_cells(root: Path) -> dict[str, dict[str, Any]]:
    """Kill a rank of a run, and return the cells that go on from its checkpoint; one of the plain loop is left."""
    with pytest.raises(RankCrash, match=r"^cells: rank 1 ended by SIGKILL; the machine may be out of memory$"):
        on_ranks(root, {"killed": {**KILLED, "plant": "kill", "at": 6}}, 2)
    assert [path.name for path in (root / "killed" / "scratch").iterdir()] == ["step-4"]
    for name in ("same", "third", "other base", "plain"):
        shutil.copytree(root / "killed", root / name)
    third = KILLED | {"execution": deepspeed(2, 3)}
    return {"same": KILLED, "third": third, "other base": KILLED | {"plant": "base"}, "whole": KILLED}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def made(request: pytest.FixtureRequest, _ranks_find_the_tests: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The number of ranks, the folder, and what all cells returned that run to their end in one launch."""
    ranks = request.param
    if ranks == 1 and as_nccl():
        pytest.skip("a rank alone waits for nobody")
    root = tmp_path_factory.mktemp(f"ranks{ranks}")
    stopped = resuming_cells(ranks, "stopped", plant="stop", at=5)
    cells = equality_cells(ranks) | resuming_cells(ranks, "undisturbed") | stopped
    if ranks > 1:
        cells |= diverging_cells() | (slow_cells() if as_nccl() else {})
        cells |= killed_cells(root)
    return ranks, root, on_ranks(root, cells, ranks)


@pytest.fixture(scope="module")
def on_two(made: Made) -> Made:
    """The same of two ranks alone."""
    if made[0] == 1:
        pytest.skip("a matter of two ranks")
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_losses_norms_and_weights_are_those_of_the_plain_loop(
    made: Made, plain: Callable[[Cell], tuple[Path, dict[str, Any]]], record_property: Callable[[str, object], None]
) -> None:
    ranks, root, returned = made
    for name, cell in equality_cells(ranks).items():
        if cell.get("settings", {}).get("precision"):
            continue
        alone, said = plain(cell)
        wanted = said["losses"]
        apart = max(abs(a - b) for a, b in zip(returned[name]["losses"], wanted, strict=True))
        record_property(f"{name}, {ranks} ranks", apart)
        assert apart < 1e-5, name
        for found, expected in zip(lines(root / name), lines(alone), strict=True):
            assert found.keys() == expected.keys()
            assert found["answer_tokens"] == expected["answer_tokens"]
            assert found["learning_rate"] == expected["learning_rate"]
            assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
            assert ("norm_gradients" in found) == (cell["method"] != "lora")
            for norm, numbers in found.get("norm_gradients", {}).items():
                wanted = expected["norm_gradients"][norm]
                assert numbers == pytest.approx(wanted, rel=1e-4, abs=1e-5 * max(map(abs, wanted))), (name, norm)
        tuned, reference = (load_file(folder / "tuned.safetensors") for folder in (root / name, alone))
        assert {key: value.shape for key, value in tuned.items()} == {
            key: value.shape for key, value in reference.items()
        }
        assert all((tuned[key] - reference[key]).abs().max() < 1e-4 for key in tuned), name


def test_bfloat16_comes_close_and_saves_float32(
    made: Made, plain: Callable[[Cell], tuple[Path, dict[str, Any]]]
) -> None:
    if as_nccl():
        pytest.skip("a matter of how a rank computes")
    ranks, root, returned = made
    for stage in STAGES:
        for name in (f"bf16-{stage}", f"weights-{stage}"):
            cell = equality_cells(ranks)[name]
            wanted = plain({**cell, "settings": {}})[1]["losses"]
            assert returned[name]["losses"] == pytest.approx(wanted, rel=0.03) and returned[name]["losses"] != wanted
            assert {str(value.dtype) for value in load_file(root / name / "tuned.safetensors").values()} == {
                "torch.float32"
            }
    assert returned["weights-2"]["losses"] != returned["bf16-2"]["losses"]


def test_a_stopped_run_resumes_to_the_same_bytes(made: Made) -> None:
    _, root, returned = made
    for stage in STAGES:
        stopped, whole = root / f"stopped-{stage}", root / f"undisturbed-{stage}"
        assert returned[stopped.name]["stopped"] == (
            "cell: stopped at step 6 of 11; the next attempt goes on from there"
        )
        assert returned[stopped.name]["resumed_at"] == 6 and returned[whole.name]["resumed_at"] == 0
        assert [line["step"] for line in lines(stopped)] == list(range(1, 12))
        for name in ("tuned.safetensors", "metrics.jsonl"):
            assert (stopped / name).read_bytes() == (whole / name).read_bytes(), (stage, name)


def test_a_checkpoint_waits_for_the_rank_that_writes_last(on_two: Made) -> None:
    if not as_nccl():
        pytest.skip("ranks whose every collective waits are no trial of it")
    assert [on_two[2][name]["resumed_at"] for name in slow_cells()] == [6] * len(STAGES)


def test_a_run_that_diverges_on_one_rank_ends_at_the_same_step_on_all(on_two: Made) -> None:
    """By pictures that are broken on the last rank alone, and by a learning rate at which the loss overflows."""
    _, root, returned = on_two
    for name in diverging_cells():
        run, steps = returned[name]["diverged"], returned[name]["steps"]
        assert "nan" in (run["loss"], run["grad_norm"]) or "inf" in (run["loss"], run["grad_norm"]), (name, run)
        assert steps == [run["step"]] * 2 and (run["step"] > 2 or "broken" in name), (name, run)
        assert [one["step"] for one in lines(root / name)] == list(range(1, run["step"])), name
        assert not (root / name / "tuned.safetensors").exists()


def test_a_killed_rank_is_named_and_the_run_resumes_with_any_engine(on_two: Made) -> None:
    """Stage 2 on two ranks; the checkpoint then serves stages 2 and 3, another number of ranks, and the plain loop."""
    _, root, returned = on_two
    assert {name: returned[name]["resumed_at"] for name in ("same", "third", "other base", "whole")} == {
        "same": 4, "third": 4, "other base": 0, "whole": 0,
    }  # fmt: skip
    for name in ("tuned.safetensors", "metrics.jsonl"):
        assert (root / "same" / name).read_bytes() == (root / "whole" / name).read_bytes()
    losses = returned["whole"]["losses"]
    assert returned["third"]["losses"] == pytest.approx(losses, abs=1e-5)
    alone = train_cell({**KILLED, "folder": str(root / "plain"), "execution": {}, "dropout": 0.0})
    assert alone["resumed_at"] == 4 and alone["losses"][:4] == losses[:4]


@pytest.mark.parametrize(
    ("plant", "error", "text"),
    [
        ("user error", UserError, "samples.jsonl: planted; fix it"),
        ("defect", RankCrash, "cells: rank 1: ValueError: planted"),
        (
            "connector", UserError,
            "rank 1 holds other weights than rank 0 at the start of training; all ranks must load the same files with "
            "the same versions of the packages",
        ),
    ],
)  # fmt: skip
def test_what_a_rank_has_to_say_comes_out_as_one_line(
    plant: str, error: type[Exception], text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if plant != "defect" and as_nccl():
        pytest.skip("once is enough: the other ranks do as after a defect")
    cell = {"method": "layernorm", "execution": deepspeed(2, 2), "plant": plant, "at": 2}
    with pytest.raises(error) as raised:
        on_ranks(tmp_path, {"failing": cell}, 2)
    assert str(raised.value) == text
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    assert ("ValueError: planted" in printed.out) == (plant == "defect")
