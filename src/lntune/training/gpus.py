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

OLDEST_DRIVER = {"12": 525, "13": 580}
"""CUDA's major version to the oldest driver that runs it (NVIDIA's release notes of the CUDA toolkit, table 3)."""

_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # torch 2.14 reads both, the second one as deprecated
_IN_SLURM = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
_ASKED = re.compile(r"(?:tried to allocate|Tried to allocate) ([\d.]+ (?:bytes|[KMGT]iB))")


@dataclass(frozen=True)
class Gpus:
    """What torch finds: NVIDIA's driver, torch and the CUDA it is built for, each GPU's name and bytes of memory.

    ``error``: why torch cannot use a GPU; empty if it can.
    """

    driver: str | None
    torch: str
    cuda: str | None
    names: tuple[str, ...] = ()
    memory: tuple[int, ...] = ()
    error: str = ""

    @property
    def versions(self) -> str:
        """Driver, torch and CUDA in words."""
        driver = f"driver {self.driver}" if self.driver else "no NVIDIA driver"
        return f"{driver}, torch {self.torch} for {f'CUDA {self.cuda}' if self.cuda else 'no CUDA'}"

    @property
    def remedy(self) -> str:
        """What makes torch find a GPU here."""
        if self.cuda is None:
            return "install the locked torch, which is built for CUDA: `make environment`"
        needed = OLDEST_DRIVER.get(self.cuda.split(".")[0])
        if needed and (self.driver is None or int(self.driver.split(".")[0]) < needed):
            return f"use nodes with a driver of {needed} or newer, or install torch for an older CUDA"
        return "look at `nvidia-smi` there: a GPU may be broken, in use, or not given to the job"


def driver_version() -> str | None:
    """The version of NVIDIA's driver on this node; None without one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            text = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        except (OSError, subprocess.TimeoutExpired):
            return None
    found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", text)
    return found[0] if found else None


def gpus_here() -> Gpus:
    """The GPUs that this process may use; no memory is taken on any."""
    import torch

    versions = driver_version(), str(torch.__version__), torch.version.cuda
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the driver is too old, which is the error, too
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
    if not any(name in os.environ for name in _ALLOCATOR):
        # Lengths differ from batch to batch: without it, fragments of up to some GB are lost.
        os.environ[_ALLOCATOR[0]] = "expandable_segments:True"
    if execution.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    given = execution.device == "auto" and any(os.environ.get(name) for name in _IN_SLURM)
    if execution.device != "gpu" and not given:
        return None
    os.environ[GPU_REQUIRED] = "1"
    gpus, node = gpus_here(), socket.gethostname()
    if len(gpus.names) >= ranks:
        return unlike(label, gpus, execution.gpu, node)
    finds = f"finds {len(gpus.names)} of the {ranks} GPUs" if ranks > 1 else "cannot use the GPU"
    reason = f" ({gpus.error})" if gpus.error else ""
    raise UserError(
        f"{label}: {finds} that it was given on {node}: {gpus.versions}{reason}; {gpus.remedy}; to compute on the CPU "
        "on purpose, set execution.device of the scale to cpu"
    )


def unlike(label: str, gpus: Gpus, planned: PlannedGpu | None, node: str) -> str | None:
    """What to say where a GPU is of another kind, or has less memory, than the plan reckons with."""
    if planned is None:
        return None
    words = re.findall(r"[a-z0-9]+", planned.name.lower())
    smallest = min(gpus.memory) / 1e9
    other = [name for name in gpus.names if not all(word in name.lower() for word in words)]
    if not other and smallest >= 0.99 * planned.memory_gb:
        return None
    return (
        f"{label}: execution.gpu of the scale is {planned.name} with {planned.memory_gb:g} GB, {node} has "
        f"{(other or gpus.names)[0]} with {smallest:.1f} GB: hours may differ, and the job may not fit"
    )


def out_of_memory(text: str, execution: Mapping[str, object], method: object) -> str | None:
    """What a torch error says of memory that was lacking, and the remedy; None if it speaks of something else.

    Args:
        text: the error's, perhaps with something before it.
        execution: as the job spec has it.
        method: the tuning method, if the job has one.
    """
    asked = _ASKED.search(text)
    if not asked:
        return None
    if "CPUAllocator" in text:
        return f"host memory did not do for {asked[1]} more; raise mem_mb of the stage in execution.stages of the scale"
    total = re.search(r"total capacity of ([\d.]+ \w+)", text)
    held = re.search(r"([\d.]+ \w+) is allocated by PyTorch", text)
    holds = f", of which torch held {held[1]}" if held else ""
    gpu = f" of {total[1]}{holds}," if total else ""
    return f"the GPU's memory{gpu} did not do for {asked[1]} more; {_smaller(execution, method)}"


def _smaller(execution: Mapping[str, object], method: object) -> str:
    if "batch_size" in execution:
        return f"lower execution.prediction_batch of the scale below {execution['batch_size']}"
    micro, zero = execution.get("micro_batch"), execution.get("zero_stage")
    remedies = [f"lower execution.micro_batch of the scale below {micro}"] if micro != 1 else []
    if execution.get("engine") == "deepspeed" and zero != 3 and method:
        remedies.append(f"raise zero_stage of methods.{method} above {zero}")
    return " or ".join(remedies or ["give the stage more GPUs (execution.stages of the scale)"])
