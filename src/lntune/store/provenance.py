"""Where and from what a result is being made: the commit, the machine, the CPU time and the memory it took."""

import os
import platform
import resource
import socket
import subprocess
import sys
from pathlib import Path

from lntune.store.manifest import Git, Machine


def git_state(folder: Path) -> Git | None:
    """The commit that a folder's checkout stands at; None without git, a repository or a first commit."""
    command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if commit == "(initial)":
        return None
    return Git(commit=commit, dirty=any(not line.startswith("#") for line in lines))


def machine(ranks: int) -> Machine:
    """This host and what of it the process may use.

    Args:
        ranks: how many processes shared the work.
    """
    return Machine(
        host=socket.gethostname(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        gpus=_gpu_names(),
        ranks=ranks,
        slurm_job_id=os.environ.get("SLURM_JOB_ID"),
    )


def peak_memory_bytes() -> int:
    """The most resident memory that this process, or any one of its children that ended, ever held."""
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return most if sys.platform == "darwin" else most * 1024  # Linux counts in KiB


def cpu_seconds() -> float:
    """CPU time, user and system, that this process and those of its children that ended have taken so far."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu_names() -> tuple[str, ...]:
    """The visible GPUs, if the stage has loaded torch; loading it here would cost seconds for nothing."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
