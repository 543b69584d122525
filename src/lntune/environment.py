"""The environment that jobs start in: what is listed here of the starter's, and ours.

    subprocess.Popen(command, env=job_environment())

A library reads its variables when it is imported, and Python, Java and the C library read theirs when a process
starts: so a process is started in it, and what a job starts inherits it. docs/environment.md gives the reasons.
"""

import os

_PASSED = frozenset((
    # Whose job it is, where its files lie, how it prints.
    "HOME", "USER", "LOGNAME", "PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "TMPDIR", "XDG_CACHE_HOME", "KRB5CCNAME",
    "TERM", "COLUMNS", "NO_COLOR", "PYTHONNOUSERSITE",
    # The way to the network, to the GPUs, and to the compiler of DeepSpeed's kernels.
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "GLOO_SOCKET_IFNAME", "CC", "CXX",
    "MAX_JOBS", "TORCH_CUDA_ARCH_LIST", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "DS_SKIP_CUDA_CHECK",
    # Which instructions of a CPU are used: these change digits, and are how one tries another CPU's.
    "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA",
))  # fmt: skip
_PASSED_GROUPS = ("LNTUNE_", "SLURM_", "CUDA_", "NCCL_", "TORCH_NCCL_", "HF_", "FAKETIME")
_OURS = {
    "LC_ALL": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONSAFEPATH": "1",  # else a random.py in the folder of the run stands before Python's own
    "OMP_NUM_THREADS": "1",  # of the libraries' own pools; a stage sets torch's threads
    "TOKENIZERS_PARALLELISM": "false",
}


def job_environment() -> dict[str, str]:
    """The environment of a job, which runs the lntune that this process runs."""
    passed = {name: value for name, value in os.environ.items() if _passes(name)}
    return passed | _OURS | {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}


def _passes(name: str) -> bool:
    if name.endswith("_proxy"):
        name = name.upper()
    return name in _PASSED or name.startswith(_PASSED_GROUPS)
