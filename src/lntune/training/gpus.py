"""The GPUs of this node as a process may use them, and what a job does about them before it starts.

A job that was given GPUs trains on them or ends at once: on the CPU it would run into its time limit.
"""

import os
import re
import socket
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lntune.config.training import GPU_REQUIRED, OnDevice, PlannedGpu
from lntune.errors import UserError

_OLDEST_DRIVER = {"12": 525, "13": 580}  # by CUDA's major version (NVIDIA's release notes of the CUDA toolkit)


@dataclass(frozen=True)
class Gpus:
    """NVIDIA's driver, torch, the CUDA it is built for, each GPU's name and bytes; ``error``: why torch finds none."""

    driver: str | None
    torch: str
    cuda: str | None
    names: tuple[str, ...] = ()
    memory: tuple[int, ...] = ()
    error: str = ""

    @property
    def text(self) -> str:
        """All of it in words."""
        found = f"{len(self.names)} x {self.names[0]} with {min(self.memory) / 1e9:.1f} GB, " if self.names else ""
        driver = f"driver {self.driver}" if self.driver else "no NVIDIA driver"
        error = f" ({self.error})" if self.error else ""
        return f"{found}{driver}, torch {self.torch} for {f'CUDA {self.cuda}' if self.cuda else 'no CUDA'}{error}"

    @property
    def remedy(self) -> str:
        """What makes torch find its GPUs here."""
        if self.cuda is None:
            return "install the locked torch, which is built for CUDA: `make environment`"
        needed = _OLDEST_DRIVER.get(self.cuda.split(".")[0], 0)
        if int((self.driver or "0").split(".")[0]) < needed:
            return f"use nodes with a driver of {needed} or newer, or install torch for an older CUDA"
        return "look at `nvidia-smi` there: a GPU may be broken, in use, or not given to the job"

    def differ_from(self, planned: PlannedGpu | None) -> bool:
        """Whether a GPU is of another kind, or has less memory, than the plan reckons with."""
        if planned is None:
            return False
        return not all(map(planned.is_kind_of, self.names)) or min(self.memory) < 0.99e9 * planned.memory_gb


def driver_version() -> str | None:
    """The version of NVIDIA's driver on this node; None without one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        text = subprocess.getoutput("timeout 60 nvidia-smi --query-gpu=driver_version --format=csv,noheader")
    found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return found[0] if found else None


def gpus_here() -> Gpus:
    """The GPUs that this process may use."""
    import torch

    versions = driver_version(), str(torch.__version__), torch.version.cuda
    with warnings.catch_warnings(action="ignore"):  # they say what the error says
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
            found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        except (RuntimeError, AssertionError) as error:
            return Gpus(*versions, error=" ".join(str(error).split(". ")[0].split()))
    return Gpus(*versions, tuple(one.name for one in found), tuple(int(one.total_memory) for one in found))


def take_device(label: str, execution: OnDevice, ranks: int) -> str | None:
    """Before a job starts: settle where it computes, in the environment that its ranks inherit.

    Returns a warning where the GPUs are not those that the plan reckons with. Raises UserError where the job was given
    GPUs and finds fewer than it has ranks.
    """
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():  # torch 2.14 reads both
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"  # batches differ in length: fragments
    if execution.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    by_slurm = any(os.environ.get(name) for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS"))
    if execution.device == "cpu" or (execution.device == "auto" and not by_slurm):
        return None
    os.environ[GPU_REQUIRED] = "1"
    gpus, node, planned = gpus_here(), socket.gethostname(), execution.gpu
    if len(gpus.names) < ranks:
        raise UserError(
            f"{label}: was given GPUs on {node}, and torch finds {len(gpus.names)} of {ranks}: {gpus.text}; "
            f"{gpus.remedy}; to compute on the CPU on purpose, set execution.device of the scale to cpu"
        )
    if planned is None or not gpus.differ_from(planned):
        return None
    return (
        f"{label}: {node} has {gpus.text}, where execution.gpu of the scale is {planned.name} with "
        f"{planned.memory_gb:g} GB: hours may differ, and the job may not fit"
    )


def out_of_memory(text: str, execution: Mapping[str, object], method: object) -> str | None:
    """What torch's error says of memory that was lacking, with the remedy; None if it speaks of something else.

    ``execution`` is that of the job spec; ``method`` the tuning method, if the job has one.
    """
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", text)
    if not asked:
        return None
    if "CPUAllocator" in text:
        return f"host memory did not do for {asked[1]} more; raise mem_mb of the stage in execution.stages of the scale"
    sizes = re.search(r"capacity of ([\d.]+ \w+).*?([\d.]+ \w+) is allocated by PyTorch", text, re.DOTALL)
    gpu = f" of {sizes[1]}, of which torch held {sizes[2]}," if sizes else ""
    micro, zero, remedies = execution.get("micro_batch"), execution.get("zero_stage"), []
    if "batch_size" in execution:
        remedies = [f"lower execution.prediction_batch of the scale below {execution['batch_size']}"]
    elif execution.get("positions") is not None:
        remedies = ["raise execution.gpu.reserve_gb of the scale"]
    elif micro != 1:
        remedies = [f"lower execution.micro_batch of the scale below {micro}"]
    if execution.get("engine") == "deepspeed" and zero != 3 and method:
        remedies.append(f"raise zero_stage of methods.{method} above {zero}")
    remedy = " or ".join(remedies) or "give the stage more GPUs (execution.stages of the scale)"
    return f"the GPU's memory{gpu} did not do for {asked[1]} more; {remedy}"
