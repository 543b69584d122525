"""The environment that jobs start in: what is listed here of the starter's, and ours.

    subprocess.Popen(command, env=job_environment())

A library reads its variables when it is imported, and Python, Java and the C library read theirs when a process
starts: so a process is started in it, and what a job starts inherits it. docs/provenance.md gives the reasons.
"""

import os
import platform
import re
import sys
from pathlib import Path

_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PASSED = """
HOME USER LOGNAME PATH LD_LIBRARY_PATH LD_PRELOAD TMPDIR XDG_CACHE_HOME KRB5CCNAME TERM COLUMNS NO_COLOR
HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GLOO_SOCKET_IFNAME
PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF TORCH_CUDA_ARCH_LIST TORCH_EXTENSIONS_DIR TRITON_CACHE_DIR CC CXX MAX_JOBS
DS_SKIP_CUDA_CHECK PYTHONNOUSERSITE ATEN_CPU_CAPABILITY MKL_CBWR MKL_ENABLE_INSTRUCTIONS ONEDNN_MAX_CPU_ISA
"""
_PASSED_GROUPS = ("LNTUNE_", "SLURM_", "CUDA_", "NCCL_", "TORCH_NCCL_", "HF_", "FAKETIME")
_OURS = {
    "LC_ALL": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONSAFEPATH": "1",  # else a random.py in the folder of the run stands before Python's own
    "OMP_NUM_THREADS": "1",  # of the libraries' own pools; a stage sets torch's threads
    "TOKENIZERS_PARALLELISM": "false",
}
PORTABLE = {
    "MKL_CBWR": "COMPATIBLE",  # matrix products: what every x86-64 CPU computes alike
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    # MKL's vector functions, which MKL_CBWR leaves alone: of the branches this one, for AVX2, takes exact square roots.
    # The others start from rsqrtps, which AMD and Intel round differently, and AdamW carries that into every weight.
    "MKL_VML_DEBUG_CPU_TYPE": "3",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "CUDA_VISIBLE_DEVICES": "",
}
"""With these a job's digits are the same on every x86-64 CPU with AVX2, in one thread; docs/provenance.md says why."""
# What of Python's may stay where a command is typed: nothing that is planned or printed depends on it.
_HARMLESS = {"PYTHONUTF8", "PYTHONHASHSEED", "PYTHONSAFEPATH", "PYTHONNOUSERSITE", "PYTHONUNBUFFERED"}
_HARMLESS |= {"PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONFAULTHANDLER"}


def portable_lacks() -> str:
    """Why this machine cannot compute with portable numerics; empty if it can."""
    if platform.machine() != "x86_64":
        return f"the CPU is {platform.machine()}, not x86-64"
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    lacking = {"avx2", "fma"} - set(flags[1].split() if flags else ())
    return f"the CPU has no {' and no '.join(sorted(lacking))}" if lacking else ""


def job_environment(portable: bool = False) -> dict[str, str]:
    """The environment of a job, which runs the lntune that this process runs."""
    passed = {*_PASSED.split(), "http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    given = {name: os.environ[name] for name in os.environ if name in passed or name.startswith(_PASSED_GROUPS)}
    return given | _OURS | {"PYTHONPATH": _SOURCE} | (PORTABLE if portable else {})


def settle(folder: str = ".") -> None:
    """Make Python plan and print as jobs work: with their packages, in UTF-8, whatever the user's PYTHON* and locale.

    Where it has started otherwise, this process starts again, in ``folder``: Python names files in the encoding that it
    finds then.
    """
    packages = os.environ.get("PYTHONPATH") or _SOURCE
    foreign = {name for name in os.environ if name.startswith("PYTHON")} - _HARMLESS - {"PYTHONPATH"}
    for name in foreign:
        del os.environ[name]
    os.environ.update(PYTHONPATH=_SOURCE, PYTHONUTF8="1", PYTHONSAFEPATH="1")
    if foreign or os.path.abspath(packages) != _SOURCE or sys.getfilesystemencoding() != "utf-8":
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
