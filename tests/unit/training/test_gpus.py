"""Jobs that were given GPUs: what they do where there is none, which all of it is run on; and torch's allocator."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from checkout import ROOT
from lntune.config.training import GPU_REQUIRED, Execution, OnDevice, PlannedGpu
from lntune.errors import UserError
from lntune.model.device import device
from lntune.training.gpus import Gpus, gpus_here, out_of_memory, take_device
from lntune.training.launch import launch

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
TWO_RANKS = Execution(device="gpu", micro_batch=4, threads=1, engine="deepspeed", ranks=2, zero_stage=2)
A100 = PlannedGpu(name="a100", memory_gb=85.0)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a test sets, or leaves to be set, is gone after it."""
    for name in (GPU_REQUIRED, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))


@without_gpu
def test_gpus_that_were_given_and_cannot_be_used_end_the_job_in_a_line_with_driver_and_cuda() -> None:
    with pytest.raises(UserError) as raised:
        take_device("finetune vicuna-7b-lora", TWO_RANKS, 2)
    text = str(raised.value)
    assert text.startswith("finetune vicuna-7b-lora: was given GPUs on ") and "torch finds 0 of 2" in text
    here = gpus_here()
    assert here.text in text and f"CUDA {torch.version.cuda}" in text and here.error in text and "\n" not in text
    assert "580 or newer" in text and "execution.device" in text


@without_gpu
def test_gpus_that_slurm_gave_count_where_the_scale_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert take_device("predict it", OnDevice(), 1) is None
    monkeypatch.setenv("SLURM_STEP_GPUS", "0")
    with pytest.raises(UserError, match="predict it: was given GPUs"):
        take_device("predict it", OnDevice(), 1)
    assert take_device("predict it", OnDevice(device="cpu"), 1) is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@without_gpu
def test_no_process_of_a_job_with_gpus_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device().type == "cpu"
    monkeypatch.setenv(GPU_REQUIRED, "1")
    with pytest.raises(UserError, match=r"rank 0 on .* cannot use its GPU"):
        device()


@without_gpu
@pytest.mark.slow
def test_no_rank_of_a_job_with_gpus_falls_back_to_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_REQUIRED, "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests" / "helpers"))))
    with pytest.raises(UserError, match="cannot use its GPU"):
        launch("deepspeed_cells", {"cells": []}, 2, 1, "cells")


@pytest.mark.parametrize(
    ("driver", "cuda", "remedy"),
    [
        ("535.104.05", "13.0", "a driver of 580 or newer"),
        ("515.65.01", "12.8", "a driver of 525 or newer"),
        (None, "13.0", "a driver of 580 or newer"),
        ("580.65.06", "13.0", "nvidia-smi"),
        ("580.65.06", None, "make environment"),
    ],
)
def test_remedies(driver: str | None, cuda: str | None, remedy: str) -> None:
    assert remedy in Gpus(driver, "2.14.1", cuda).remedy


@pytest.mark.parametrize(
    ("name", "gigabytes", "warned"),
    [
        ("NVIDIA A100-SXM4-80GB", 85.1, False),
        ("NVIDIA A100-SXM4-80GB", 90.0, False),
        ("NVIDIA A100-PCIE-40GB", 42.4, True),
        ("NVIDIA H100 80GB HBM3", 85.0, True),
    ],
)
def test_a_gpu_of_another_kind_or_with_less_memory_is_a_warning(
    name: str, gigabytes: float, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = Gpus("580.65.06", "2.14.1", "13.0", (name,) * 2, (int(gigabytes * 1e9),) * 2)
    monkeypatch.setattr("lntune.training.gpus.gpus_here", lambda: gpus)
    warning = take_device("finetune it", TWO_RANKS.model_copy(update={"gpu": A100}), 2)
    assert (warning is not None) == warned
    if warning:
        assert f"2 x {name} with {gigabytes} GB, driver 580.65.06" in warning and "a100 with 85 GB" in warning


# As torch 2.14 puts it together (CUDACachingAllocator.cpp).
CUDA_ERROR = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.25 GiB of which 1.23 GiB is "
    "free. Including non-PyTorch memory, this process has 78.00 GiB memory in use. Of the allocated memory 70.12 "
    "GiB is allocated by PyTorch, and 5.00 GiB is reserved by PyTorch but unallocated."
)
TRAINING = {"micro_batch": 4, "engine": "deepspeed", "zero_stage": 2}


@pytest.mark.parametrize(
    ("execution", "method", "remedy"),
    [
        (
            TRAINING,
            "lora",
            "below 4 or raise zero_stage of methods.lora above 2",
        ),
        (TRAINING, None, "lower execution.micro_batch of the scale below 4"),
        (TRAINING | {"zero_stage": 3, "micro_batch": 1}, "finetune", "give the stage more GPUs"),
        ({"batch_size": 32}, "lora", "lower execution.prediction_batch of the scale below 32"),
    ],
)
def test_memory_that_a_gpu_lacks_is_one_line_with_the_remedy(
    execution: dict[str, Any], method: str | None, remedy: str
) -> None:
    line = out_of_memory(f"it: rank 1: OutOfMemoryError: {CUDA_ERROR}", execution, method)
    assert line and remedy in line
    assert line.startswith(
        "the GPU's memory of 79.25 GiB, of which torch held 70.12 GiB, did not do for 20.00 GiB more"
    )


def test_memory_that_the_host_lacks_is_one_line() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    line = out_of_memory(str(raised.value), TRAINING, "lora")
    assert line and "host memory" in line and "4503599627370496 bytes" in line and "mem_mb" in line
    assert out_of_memory("CUDA error: device-side assert triggered", TRAINING, "lora") is None


@pytest.mark.parametrize(
    ("own", "settings"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, "max_split_size_mb:64"),
    ],
)
def test_torch_is_told_of_expandable_segments_unless_the_user_says_otherwise(
    own: dict[str, str], settings: str
) -> None:
    """Also where torch was imported before, as in the fork server."""
    code = (
        "import torch; from lntune.config.training import OnDevice; from lntune.training.gpus import take_device;"
        "take_device('it', OnDevice(), 1); print(torch._C._accelerator_getAllocatorSettings())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")} | own
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == settings
